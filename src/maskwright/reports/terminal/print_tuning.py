"""Prints what a search for rate and batch found."""

import shlex

from maskwright.core.log import is_first_rank
from maskwright.core.records.tuning import TuningRecord
from maskwright.reports.terminal.print_tables import print_table
from maskwright.reports.tuning import recipe_fragment, tuning_table


def print_tuning(record: TuningRecord) -> None:
    """Print the trials, and the best as options of the command line and as a part of a recipe."""
    if not is_first_rank():
        return
    print_table(tuning_table(record))
    settings = (f"{key}={value!r}" for key, value in record.settings.items())
    print("the best: " + " ".join(f"--set {shlex.quote(setting)}" for setting in settings))
    print(f"or in the recipe:\n\n{recipe_fragment(record)}")
