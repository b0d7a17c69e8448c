"""What a path on the command line means: a run folder, a model folder or a name on the hub."""

from pathlib import Path

from maskwright.core.errors import ExportError
from maskwright.core.files import put_back
from maskwright.core.records.run import RunFolder
from maskwright.export.hub import downloaded, is_hub_name


def model_folder_of(model: str | Path) -> Path:
    """Return the model folder of a run folder, of a name on the hub (fetched), or the path itself.

    Raises:
        ExportError: it is none of these, or the run has no exported model yet.
        EvaluationError: it is a name on the hub, which can't be reached.
    """
    path = Path(model)
    for folder in (path, RunFolder(path).model):
        put_back(folder)
    if (path / "config.json").exists():
        return path
    run = RunFolder(path)
    if (run.model / "config.json").exists():
        return run.model
    if run.run_record.exists():
        raise ExportError(
            f"{path} has no exported model", f"{run.model} with config.json", f"export it: maskwright export {path}"
        )
    if is_hub_name(model):
        return downloaded(str(model))
    raise ExportError(
        f"{path} " + ("is neither a run nor a model" if path.exists() else "does not exist"),
        "a run folder, a Hugging Face model folder with config.json, or a model's name on the hub",
    )
