"""`maskwright compare`: several recipes under one budget, several seeds, one table and one page."""

from pathlib import Path
from typing import Annotated

import tyro

from maskwright.cli.work import Work
from maskwright.comparison.comparison_options import ComparisonOptions


def compare(files: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RECIPE")], /, how: ComparisonOptions) -> Work:
    """Train several recipes on the same text in the same order, score them by the same questions, and compare.

    Runs that are there are used again, and those that were stopped go on; the same command continues a comparison.

    Args:
        files: two recipes or more, or one YAML file that lists them (docs/compare.md); a run folder stands for a recipe
            that was trained before.
        how: under which budget, how often, by what.
    """
    return Work("maskwright.comparison.run_comparison:compare", files, options=how)
