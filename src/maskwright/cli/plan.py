"""`maskwright plan`: what a recipe will cost on this machine, before anything runs."""

from pathlib import Path
from typing import Annotated

import tyro

from maskwright.cli.work import Work


def plan(
    recipe: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="RECIPE")] = None,
    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    hours: Annotated[float | None, tyro.conf.arg(metavar="HOURS")] = None,
    save: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
) -> Work:
    """Show parameters, FLOPs, and predicted speed, time, memory and disk of a recipe; reads no text, trains nothing.

    Args:
        recipe: the recipe; left out with --data and --hours, for which one is chosen.
        data: text instead of the recipe's; may be given several times. Without a recipe, its size is looked at.
        hours: of training, instead of the recipe's budget.
        save: write the recipe to this file, to be changed and trained.
        set: a value that replaces the recipe's, such as --set encoder.size=base; may be given several times.
    """
    return Work(
        "maskwright.pipeline.plan_recipe:plan",
        recipe,
        data=data,
        hours=hours,
        save=save,
        set=set,
        shown_by="maskwright.reports.terminal.print_results:print_plan",
    )
