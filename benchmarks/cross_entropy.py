"""Measure the ways to make the cross-entropy of a vocabulary: time and memory, forward and backward.

    python benchmarks/cross_entropy.py --record benchmarks/records/<date>_cross_entropy.json

`plain` makes all logits at once, `own` makes them in pieces (`heads/cross_entropy.py`), `torch` is torch's own
`linear_cross_entropy` in pieces of the same size (float32 alone: under autocast it sums in half precision). All are
measured in turn in each round, on the same numbers; the least time of the rounds counts. Memory is how far the process
grows, the gradient of the embedding included.
"""

import argparse
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from maskwright.core.hardware import environment
from maskwright.heads.cross_entropy import (
    as_slots,
    chunked_cross_entropy,
    has_torchs_cross_entropy,
    is_small,
    logits_bytes,
    torchs_cross_entropy,
)


def work_of(way: str, num_slots: int, vocabulary_size: int, width: int, dtype: torch.dtype) -> Callable[[], None]:
    """Return a function that makes loss and gradients once."""
    generator = torch.Generator().manual_seed(0)
    x_MD = torch.randn((num_slots, width), generator=generator).requires_grad_()
    embedding_VE = (0.02 * torch.randn((vocabulary_size, width), generator=generator)).requires_grad_()
    bias_V = torch.zeros(vocabulary_size, requires_grad=True)
    target_ids_M = torch.randint(vocabulary_size, (num_slots,), generator=generator)

    def work() -> None:
        x_MD.grad = embedding_VE.grad = bias_V.grad = None
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            if way == "plain":
                logits_MV = torch.nn.functional.linear(x_MD, embedding_VE, bias_V).float()
                total = torch.nn.functional.cross_entropy(logits_MV, target_ids_M, reduction="sum")
            elif way == "own":
                total = chunked_cross_entropy(x_MD, embedding_VE, bias_V, *as_slots(target_ids_M)).total
            else:
                total = torchs_cross_entropy(x_MD, embedding_VE, bias_V, target_ids_M)
        total.backward()

    return work


def peak_megabytes(arguments: tuple[Any, ...]) -> float:
    """Return how far the memory of this process grows while it works, looked at a thousand times a second."""
    work = work_of(*arguments)
    process, done = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return round((peak - before) / 1e6, 1)


def measured(num_slots: int, vocabulary_size: int, width: int, dtype: torch.dtype, rounds: int) -> dict[str, Any]:
    """Return seconds and memory of each way."""
    ways = ["plain", "own", *(["torch"] if dtype == torch.float32 and has_torchs_cross_entropy() else [])]
    shape = (num_slots, vocabulary_size, width, dtype)
    works = {way: work_of(way, *shape) for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, work in works.items():
            begin = time.perf_counter()
            work()
            if number:  # the first is a warm-up
                seconds[way].append(round(time.perf_counter() - begin, 4))
    works.clear()
    memory = {}
    for way in ways:  # in a new process each: memory that was used before is not given back
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            memory[way] = pool.apply(peak_megabytes, ((way, *shape),))
    return {
        "num_slots": num_slots,
        "vocabulary_size": vocabulary_size,
        "width": width,
        "dtype": str(dtype).removeprefix("torch."),
        "is_small": is_small(num_slots, vocabulary_size, "cpu"),
        "bound_megabytes": round(logits_bytes(num_slots, vocabulary_size, "cpu", False) / 1e6, 1),
        "seconds": seconds,
        "least_seconds": {way: min(each) for way, each in seconds.items()},
        "peak_megabytes": memory,
        "own_over_plain": round(min(seconds["own"]) / min(seconds["plain"]), 3),
    }


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vocabulary-sizes", type=int, nargs="+", default=[16_384, 50_368])
    parser.add_argument("--slots", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--conditions", default="idle machine", help="said in the record")
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    load, found = os.getloadavg()[0], []
    for dtype in (torch.float32, torch.bfloat16):
        for vocabulary_size in arguments.vocabulary_sizes:
            for num_slots in arguments.slots:
                found.append(measured(num_slots, vocabulary_size, arguments.width, dtype, arguments.rounds))
                print(json.dumps({key: value for key, value in found[-1].items() if key != "seconds"}), flush=True)
    record = {
        "claim": "in pieces it takes at most 1.1 times the time of all logits at once, in bounded memory",
        "environment": environment(),
        "conditions": arguments.conditions,
        "load_average": {"before": round(load, 1), "after": round(os.getloadavg()[0], 1)},
        "num_threads": torch.get_num_threads(),
        "measured": found,
    }
    if arguments.record:
        arguments.record.parent.mkdir(parents=True, exist_ok=True)
        arguments.record.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
