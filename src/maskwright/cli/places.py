"""What a path on the command line means: a run folder or a model folder."""

from pathlib import Path

from maskwright.core.errors import CheckpointError, ExportError
from maskwright.core.records import RunFolder, RunRecord


def record_of(path: Path) -> RunRecord:
    """Read the record of a run folder.

    Raises:
        CheckpointError: it is no run folder, or its record is damaged.
    """
    run = RunFolder(path)
    if not run.run_record.exists():
        problem = "holds no run" if path.exists() else "does not exist"
        raise CheckpointError(f"{path} {problem}", "a folder that `maskwright train` made")
    return RunRecord.read(run.run_record)


def model_folder_of(path: Path) -> Path:
    """Return the model folder of a run folder, or the path itself if it is a model folder.

    Raises:
        ExportError: it is neither, or the run has no exported model yet.
    """
    if (path / "config.json").exists():
        return path
    run = RunFolder(path)
    if (run.model / "config.json").exists():
        return run.model
    if run.run_record.exists():
        raise ExportError(
            f"{path} has no exported model", f"{run.model} with config.json", f"export it: maskwright export {path}"
        )
    raise ExportError(
        f"{path} " + ("is neither a run nor a model" if path.exists() else "does not exist"),
        "a run folder, or a Hugging Face model folder with config.json",
    )
