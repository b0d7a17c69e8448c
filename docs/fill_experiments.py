"""Fills the tables of docs/experiments.md from the records of comparisons that they name.

    .venv/bin/python docs/fill_experiments.py

`tests/docs/test_experiments.py` fails when a table is not that of its record.
"""

import re
from pathlib import Path

from maskwright.core.files import write_text_atomically
from maskwright.core.records.comparison import RecipeComparisonRecord
from maskwright.reports.comparison.cost_to_quality import cost_to_quality_table
from maskwright.reports.comparison.tables import costs_table, differences_table, scores_table

PAGE = Path(__file__).with_name("experiments.md")
PLACE = re.compile(r"(?P<begin><!-- (?P<table>\w+) of (?P<record>\S+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
TABLES = {
    "scores": scores_table,
    "costs": costs_table,
    "differences": differences_table,
    "reached": cost_to_quality_table,
}


def filled(page: str) -> str:
    """Return the page with every table as its record has it."""
    return PLACE.sub(lambda place: place["begin"] + table_of(place["table"], place["record"]) + place["end"], page)


def table_of(name: str, record: str) -> str:
    """Return a table and its notes in Markdown, between empty lines."""
    table = TABLES[name](RecipeComparisonRecord.read(PAGE.parent.parent / record))
    rows = [table.columns, ["---"] * len(table.columns), *table.all_rows]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(["", *lines, "", *table.notes, ""]) + "\n"


if __name__ == "__main__":
    write_text_atomically(PAGE, filled(PAGE.read_text(encoding="utf-8")))
