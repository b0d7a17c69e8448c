"""Checks the installation, or every checksum of a run or a prepared corpus."""

import importlib.util
from pathlib import Path

import torch
from rich.console import Console
from torch._dynamo.exc import BackendCompilerFailed

from maskwright.core.errors import CheckpointError, MissingDependency
from maskwright.core.files import sha256_of_file
from maskwright.core.hardware import default_device, environment, fastest_dtype, matmul_flops_per_second
from maskwright.core.records.run import RunFolder, RunRecord
from maskwright.corpus.corpus import open_corpus
from maskwright.training.checkpoint import Checkpoints, damage

OPTIONAL = {
    "pyarrow": ("Parquet files", "parquet"),
    "zstandard": (".zst files", "parquet"),
    "datasets": ("hf: data sets", "hub"),
    "tensorboard": ("TensorBoard", "trackers"),
}


def doctor(path: Path | None) -> None:
    """Check the installation, or the run or corpus in a folder.

    Raises:
        MissingDependency: something required does not work.
        CheckpointError: a checksum does not hold, or the folder is neither.
    """

    if path is None:
        check_installation()
    elif (path / "manifest.json").exists():
        check_corpus(path)
    elif (path / "run.json").exists():
        check_run(path)
    else:
        raise CheckpointError(f"{path} is neither a run nor a prepared corpus", "a folder that maskwright made")


def check_installation() -> None:
    """Say what is installed and what this machine reaches.

    Raises:
        MissingDependency: something required does not load or does not work.
    """

    out = Console(highlight=False, soft_wrap=True)
    for name, value in environment().items():
        out.print(f"[green]ok[/green]       {name}: {value}")
    device = default_device()
    dtype = fastest_dtype(device)
    for measured in {torch.float32, dtype}:
        rate = matmul_flops_per_second(device, measured) / 1e9
        out.print(f"[green]ok[/green]       {device}, {str(measured)[6:]}: {rate:,.0f} GFLOP/s in matrix products")
    try:
        torch.compile(lambda x: x.sin().sum())(torch.ones(8))
        out.print("[green]ok[/green]       torch.compile works")
    except BackendCompilerFailed as error:
        reason = str(error).strip().partition("\n")[0]
        out.print(f"[yellow]without[/yellow]  torch.compile ({reason}); set engine.compile=off")
    for module, (purpose, extra) in OPTIONAL.items():
        if importlib.util.find_spec(module):
            out.print(f"[green]ok[/green]       {module}: {purpose}")
        else:
            out.print(f"[yellow]without[/yellow]  {module}: no {purpose}; pip install 'maskwright\\[{extra}]'")
    if tuple(map(int, torch.__version__.split("+")[0].split(".")[:2])) < (2, 11):
        raise MissingDependency(f"torch {torch.__version__}", "torch 2.11 or newer", "pip install 'torch>=2.11'")


def check_corpus(folder: Path) -> None:
    """Verify every checksum of a prepared corpus."""

    corpus = open_corpus(folder, verify=True)
    train = corpus.manifest.splits["train"]
    print(f"ok: {folder}, {train.num_documents:,} documents, {train.num_tokens:,} tokens; every checksum holds")


def check_run(folder: Path) -> None:
    """Verify a run's record, corpus, checkpoints, and what fills masks beyond its exported model.

    Raises:
        CheckpointError: one of them is damaged.
    """

    run = RunFolder(folder)
    record = RunRecord.read(run.run_record)
    check_corpus(Path(record.corpus))
    checkpoints = Checkpoints(run.checkpoints, keep_last=1, keep_best=True)
    problems = {checkpoints.path(step): damage(checkpoints.path(step)) for step in checkpoints.steps()}
    has_damaged_checkpoint = any(problems.values())
    if record.export is not None and record.export.reader_sha256 is not None:
        is_whole = run.reader.is_file() and sha256_of_file(run.reader) == record.export.reader_sha256
        problems[run.reader] = None if is_whole else "it is missing or was altered"
    for path, problem in problems.items():
        print(f"{'damaged: ' + problem if problem else 'ok'}: {path}")
    if has_damaged_checkpoint:
        raise CheckpointError(f"{run.checkpoints} has damaged checkpoints", "none", "resuming goes back to a whole one")
    if problems.get(run.reader):
        raise CheckpointError(
            f"{run.reader} is damaged", "what was exported", f"export again: maskwright export {folder}"
        )
