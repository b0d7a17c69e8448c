"""`maskwright plan`: what a recipe will cost on this machine, before anything runs."""

from pathlib import Path
from typing import Annotated

import tyro


def plan(
    recipe: tyro.conf.Positional[Path],
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
) -> None:
    """Show parameters, FLOPs, and predicted speed, time, memory and disk of a recipe; reads no text, trains nothing.

    Args:
        recipe: the recipe.
        set: a value that replaces the recipe's, such as --set encoder.size=base; may be given several times.
    """
    from rich.console import Console
    from rich.table import Table

    from maskwright.pipeline.recipes import read_with_overrides
    from maskwright.training.engine.forecast import forecast

    foreseen = forecast(read_with_overrides(recipe, (), set))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="left", style="bold")
    for name, value in foreseen:
        table.add_row(name, value)
    Console(highlight=False).print(table)
