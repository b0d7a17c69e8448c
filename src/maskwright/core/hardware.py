"""What this machine is and can do: description, memory, and a one-second measurement of its matmul rate."""

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from maskwright.core.errors import MemoryShortage


def environment() -> dict[str, str]:
    """Return versions, machine and commit, for the record of a run."""
    facts = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for package in ("maskwright", "torch", "transformers", "tokenizers", "safetensors", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # a source checkout need not be installed
            facts[package] = importlib.metadata.version(package)
    facts["processor"] = processor_name()
    facts["cores"] = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    facts["memory_bytes"] = str(psutil.virtual_memory().total)
    if torch.cuda.is_available():
        facts["gpu"] = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    if commit := source_commit():
        facts["commit"] = commit
    return facts


def processor_name() -> str:
    """Return the processor's name, as Linux and macOS report it."""
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        for line in cpu_info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def source_commit() -> str | None:
    """Return the commit of a source checkout, with "+changes" where files differ from it; None when installed."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        ask = ["git", "-C", str(root)]
        commit = subprocess.run([*ask, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*ask, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changes else "")


def default_device() -> torch.device:
    """Return the best device of this machine: cuda (of this process's local rank), mps or cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def wait_for_device(device: torch.device) -> None:
    """Wait until a device has finished its work; the CPU has always finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def matmul_flops_per_second(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """Measure the rate of a large matrix product with both kinds of gradient shape, best of several.

    Args:
        device: where to measure.
        dtype: precision of the factors.
        seconds: how long to keep measuring.

    Returns:
        FLOP/s (a multiplication and an addition are two).
    """
    size = 8192 if device.type == "cuda" else 1024
    left = torch.randn(4 * size if device.type != "cuda" else size, size, device=device, dtype=dtype)
    right = torch.randn(size, size, device=device, dtype=dtype)
    flops = 2 * left.shape[0] * size * size

    def one_product() -> float:
        begin = time.perf_counter()
        torch.mm(left, right)
        wait_for_device(device)
        return time.perf_counter() - begin

    one_product()
    best, end = one_product(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = min(best, one_product())
    return flops / best


def fastest_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where it is at least a quarter faster than float32 here, else float32; measured, never assumed.

    Some processors emulate bfloat16 and are many times slower with it.
    """
    if device.type == "mps":
        return torch.float32
    narrow = matmul_flops_per_second(device, torch.bfloat16)
    wide = matmul_flops_per_second(device, torch.float32)
    return torch.bfloat16 if narrow > 1.25 * wide else torch.float32


def can_compile(device: torch.device) -> bool:
    """Return whether `torch.compile` finds the compiler that it needs for a device."""
    if device.type == "cuda":
        return importlib.util.find_spec("triton") is not None
    compilers = (os.environ.get("CXX", ""), "g++", "clang++", "c++")
    return device.type == "cpu" and any(compiler and shutil.which(compiler) for compiler in compilers)


@contextlib.contextmanager
def explain_allocation_errors(got: str, expected: str, to_do: str) -> Iterator[None]:
    """Turn "out of memory" into a message that says what to lower.

    Raises:
        MemoryShortage: an allocation failed, on the host or a device.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch's allocator on the CPU says it in words alone.
        is_said = any(words in str(error) for words in ("can't allocate memory", "not enough memory"))
        if not (is_said or isinstance(error, (MemoryError, torch.OutOfMemoryError))):
            raise
        raise MemoryShortage(got, expected, to_do) from error


def available_memory_bytes(device: torch.device) -> int:
    """Return the memory that a new process could use on `device`."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
