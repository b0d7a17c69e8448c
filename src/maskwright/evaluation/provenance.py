"""Whether a run of ours taught its model to fill masks; where it did not, scores of masked tokens say little."""

from pathlib import Path

from maskwright.core.log import printable, warn
from maskwright.core.records.run import RunFolder, RunRecord


def run_of_model(folder: Path) -> RunFolder | None:
    """Return the run that a model folder lies in; None where it lies elsewhere."""
    folder = folder.resolve()
    run = RunFolder(folder.parent)
    return run if folder.name == run.model.name and run.run_record.exists() else None


def warn_if_masks_were_not_taught(folder: Path) -> None:
    """Say so where a model is about to fill masks that the last phase of its run did not teach it to fill.

    Raises:
        CheckpointError: the run's record is damaged.
    """
    run = run_of_model(folder)
    if run is None:
        return
    last = RunRecord.read(run.run_record).plan.phases[-1]
    if not last.trains_vocabulary_head:
        lacking = "did not train the head that predicts tokens"
    elif last.fills_masks != "encoder":
        lacking = "never showed the encoder a mask, and no checkpoint is there with the decoder that reads them"
    else:
        return
    warn(
        f"{printable(str(folder))}: its last phase, {printable(last.objective)}, {lacking}. What it fills in, and "
        "scores of masked tokens, say little: judge it fine-tuned, or end its recipe with a short phase of mlm"
    )
