"""`maskwright export`: a checkpoint to a Hugging Face folder."""

from pathlib import Path
from typing import Annotated

import tyro


def export(
    run: tyro.conf.Positional[Path],
    step: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
    best: tyro.conf.FlagCreatePairsOff[bool] = False,
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
) -> None:
    """Write a run's model as a Hugging Face folder and compare its logits with transformers'.

    Args:
        run: a run folder.
        step: the checkpoint after this step; the newest by default.
        best: the checkpoint with the lowest held-out loss.
        out: the folder to write; RUN/model by default.
    """
    from maskwright.core.records.run import RunFolder
    from maskwright.pipeline.locate import record_of
    from maskwright.pipeline.recipes import find_plug_ins_in
    from maskwright.training.trained_run import export_run

    record = record_of(run)
    if record.recipe_folder:
        find_plug_ins_in(Path(record.recipe_folder))
    print(export_run(RunFolder(run), record, step=step, best=best, out=out))
