"""`maskwright tune`: learning rate and batch of a recipe by short runs, at most 5 % of the budget."""

from pathlib import Path
from typing import Annotated

import tyro

from maskwright.cli.work import Work


def tune(
    recipe: tyro.conf.Positional[Path],
    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    run: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    share: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 0.05,
    from_model: Annotated[Path | None, tyro.conf.arg(name="from", metavar="FOLDER")] = None,
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    corpora: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
) -> Work:
    """Train a recipe for short budgets with several learning rates and batches, and show which do best.

    Stopped anywhere, the same command goes on (docs/tuning.md).

    Args:
        recipe: the recipe; its learning rate and batch are the middle of what is tried.
        data: text instead of the recipe's: a file, folder, glob, hf:dataset/config/split or builtin:docstrings; may be
            given several times.
        run: folder of the search; runs/tune-NAME by default, NAME being the recipe's name.
        share: of the recipe's budget, the most that all trials together may use.
        from_model: a Hugging Face folder or a run folder that the recipe is to continue from, as in `train`.
        set: a value that replaces the recipe's, such as --set encoder.size=tiny; may be given several times.
        corpora: folder for prepared corpora; the folder `corpora` next to the folder of the search by default.
    """
    return Work(
        "maskwright.tuning.tune:tune",
        recipe,
        data=data,
        run=run,
        share=share,
        from_model=from_model,
        set=set,
        corpora=corpora,
        shown_by="maskwright.reports.terminal.print_tuning:print_tuning",
    )
