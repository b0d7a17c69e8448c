"""Checks the installation, or every checksum of a run, a prepared corpus, a model or a dictionary."""

import importlib.util
from pathlib import Path

import torch
from rich.console import Console
from torch._dynamo.exc import BackendCompilerFailed

from maskwright.core.errors import CheckpointError, CorpusError, MaskwrightError, MissingDependency
from maskwright.core.hardware import default_device, environment, fastest_dtype, matmul_flops_per_second
from maskwright.core.integrity import SUMS, seal_problem, sums_problems
from maskwright.core.records.run import RunFolder, RunRecord
from maskwright.corpus.corpus import read_manifest
from maskwright.pipeline.check_files import Problems, RunFiles, corpus_problems, semantics_problems
from maskwright.semantics.dictionary import FILE_NAME as DICTIONARY
from maskwright.training.run import corpus_folder_of

OPTIONAL = {
    "pyarrow": ("Parquet files", "parquet"),
    "zstandard": (".zst files", "parquet"),
    "datasets": ("hf: data sets", "hub"),
    "tensorboard": ("TensorBoard", "trackers"),
}


def doctor(path: Path | None) -> None:
    """Check the installation, or the run, corpus, model or dictionary in a folder.

    Raises:
        MissingDependency: something required does not work.
        CheckpointError: a checksum of a run, a model or a dictionary does not hold, or the folder is none of these.
        CorpusError: a checksum of a corpus does not hold.
    """

    if path is None:
        check_installation()
    elif (path / "manifest.json").exists():
        check_corpus(path)
    elif (path / "run.json").exists():
        check_run(path)
    elif (path / SUMS).exists() or (path / DICTIONARY).exists():
        texts = [*path.glob("*.json"), *path.glob("*.html")]
        sealed = {text: problem for text in texts if (problem := seal_problem(text, is_required=False))}
        require_no_problems(path, sums_problems(path) | semantics_problems(path) | sealed, CheckpointError)
        print(f"ok: {path}, every checksum holds")
    else:
        raise CheckpointError(
            f"{path} is neither a run nor a prepared corpus", "a folder that maskwright made, with its checksums"
        )


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
    """Verify every checksum of a prepared corpus.

    Raises:
        CorpusError: one does not hold.
    """
    require_no_problems(folder, corpus_problems(folder), CorpusError)
    manifest = read_manifest(folder)
    train = manifest.splits["train"]
    print(f"ok: {folder}, {train.num_documents:,} documents, {train.num_tokens:,} tokens; every checksum holds")


def check_run(folder: Path) -> None:
    """Verify everything that a run wrote, and its corpus.

    Raises:
        CheckpointError: something is damaged or missing.
        CorpusError: nothing but the corpus is.
    """
    run = RunFolder(folder)
    record = RunRecord.read(run.run_record)
    files = RunFiles(run, record)
    require_no_problems(folder, files.problems(), CheckpointError)
    print(f"ok: {folder}, record, checkpoints, metrics, model, scores, phases and report; every checksum holds")
    if not files.is_card_as_written():
        print(f"note: {run.model / 'README.md'} is not as it was written; the model card may be edited")
    check_corpus(corpus_folder_of(record, folder))


def require_no_problems(folder: Path, problems: Problems, error: type[MaskwrightError]) -> None:
    """Print what is wrong, and raise an error if something is."""
    for path, problem in problems.items():
        print(f"damaged: {path}: {problem}")
    if problems:
        path, problem = next(iter(problems.items()))
        more = f"; {len(problems) - 1} more are damaged" if len(problems) > 1 else ""
        raise error(f"{path}: {problem}{more}", f"every file of {folder} as it was written")
