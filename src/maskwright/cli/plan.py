"""`maskwright plan`: what a recipe will cost on this machine, before anything runs."""

from pathlib import Path
from typing import Annotated

import tyro

from maskwright.cli.work import Work


def plan(
    recipe: tyro.conf.Positional[Path],
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
) -> Work:
    """Show parameters, FLOPs, and predicted speed, time, memory and disk of a recipe; reads no text, trains nothing.

    Args:
        recipe: the recipe.
        set: a value that replaces the recipe's, such as --set encoder.size=base; may be given several times.
    """
    return Work(
        "maskwright.pipeline.plan_recipe:plan",
        recipe,
        set=set,
        shown_by="maskwright.reports.terminal.print_results:print_plan",
    )
