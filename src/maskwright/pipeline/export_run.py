"""From a run's checkpoint to a Hugging Face folder."""

from pathlib import Path

from maskwright.core.records.run import RunFolder
from maskwright.pipeline.locate import record_of
from maskwright.pipeline.recipes import find_plug_ins_in
from maskwright.training.trained_run import export_run


def export(run: str | Path, *, step: int | None = None, best: bool = False, out: str | Path | None = None) -> Path:
    """Write a run's model as a Hugging Face folder, compare its logits with transformers', and return the folder.

    Args:
        run: a run folder.
        step: the checkpoint after this step; the newest by default.
        best: the checkpoint with the lowest held-out loss.
        out: the folder to write; RUN/model by default.

    Raises:
        CheckpointError: there is no such run or checkpoint, or it is damaged.
        ExportError: the logits differ.
    """
    record = record_of(Path(run))
    if record.recipe_folder:
        find_plug_ins_in(Path(record.recipe_folder))
    return export_run(RunFolder(Path(run)), record, step=step, best=best, out=None if out is None else Path(out))
