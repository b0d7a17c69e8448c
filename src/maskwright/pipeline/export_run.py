"""From a run's checkpoint to a Hugging Face folder."""

from pathlib import Path

from maskwright.core.errors import RecipeError
from maskwright.training.export_checkpoint import export_run


def export(run: str | Path, *, step: int | None = None, best: bool = False, out: str | Path | None = None) -> Path:
    """Write a run's model as a Hugging Face folder, compare its logits with transformers', and return the folder.

    Args:
        run: a run folder.
        step: the checkpoint after this step; the newest by default.
        best: the checkpoint with the lowest held-out loss.
        out: the folder to write; RUN/model by default. What fills masks beyond the exported encoder is written beside
            it, as RUN/reader.safetensors or OUT-reader.safetensors.

    Raises:
        CheckpointError: there is no such run or checkpoint, or it is damaged.
        ExportError: the logits differ.
        RecipeError: both `step` and `best` were asked for.
    """
    if best and step is not None:
        raise RecipeError("--best with --step", "one of them")
    which = "best" if best else "newest" if step is None else step
    return export_run(Path(run), which, out=None if out is None else Path(out))
