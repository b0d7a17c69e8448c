"""`maskwright export`: a checkpoint to a Hugging Face folder."""

from pathlib import Path
from typing import Annotated

import tyro

from maskwright.cli.work import Work


def export(
    run: tyro.conf.Positional[Path],
    step: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
    best: tyro.conf.FlagCreatePairsOff[bool] = False,
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
) -> Work:
    """Write a run's model as a Hugging Face folder and compare its logits with transformers'.

    Args:
        run: a run folder.
        step: the checkpoint after this step; the newest by default.
        best: the checkpoint with the lowest held-out loss.
        out: the folder to write; RUN/model by default. A decoder that fills masks is written beside it.
    """
    return Work("maskwright.pipeline.export_run:export", run, step=step, best=best, out=out, shown_by="builtins:print")
