"""Scores on the terminal, on standard output: the tables of the report, as far as a terminal shows them well."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskwright.core.records import ComparisonRecord, EvaluationRecord
    from maskwright.reports.tables import Table


def print_records(records: Sequence["EvaluationRecord"]) -> None:
    """Print what tasks found: the tables, and one by one what stands in none of them."""
    from maskwright.reports.tables import score_tables

    for evaluation in records:
        if evaluation.main_metric is None:
            print_scores(evaluation)
            print_examples(evaluation)
    for table in score_tables(records):
        print_table(table)


def print_scores(evaluation: "EvaluationRecord") -> None:
    """Print the scores of one task beside its baselines."""
    from rich.console import Console
    from rich.table import Table

    from maskwright.core.log import printable
    from maskwright.reports.formatting import score, spoken

    table = Table(title=printable(spoken(evaluation.task)), title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    table.add_column("model", justify="right", style="bold")
    for baseline in evaluation.baselines:
        table.add_column(printable(baseline), justify="right", style="dim")
    for name, value in evaluation.scores.items():
        if not name.startswith("sum_"):
            others = [score(name, values[name]) if name in values else "" for values in evaluation.baselines.values()]
            table.add_row(printable(spoken(name)), score(name, value), *others)
    Console(highlight=False).print(table)


def print_examples(evaluation: "EvaluationRecord") -> None:
    """Print the fill-mask examples of one task; nothing where it has none."""
    from rich.console import Console

    from maskwright.core.log import printable

    out = Console(highlight=False, soft_wrap=True)
    for example in evaluation.examples:
        guesses = " · ".join(f"{guess['token']} {guess['probability']:.0%}" for guess in example["predictions"])
        out.print(printable(example["text"]))
        out.print(f"  [dim]hidden[/dim] {printable(example['answer'])}  [dim]guesses[/dim] {printable(guesses)}")


def print_comparison(comparison: "ComparisonRecord") -> None:
    """Print two models side by side; the verdicts stand below, as a terminal has no room for them in the table."""
    from dataclasses import replace

    from maskwright.reports.tables import comparison_table

    table = comparison_table(comparison)
    verdicts = [f"{row.title}: {row.verdict}" for row in comparison.rows]
    rows = [row[:-1] for row in table.rows]
    print_table(replace(table, columns=table.columns[:-1], rows=rows, notes=[*verdicts, *table.notes]))


def print_table(table: "Table", *, is_result: bool = True) -> None:
    """Print a table and its notes, the last row in bold where it sums up; on stderr what is not the result."""
    from rich.console import Console
    from rich.table import Table as Grid

    from maskwright.core.log import printable

    grid = Grid(title=printable(table.title), title_justify="left", box=None, pad_edge=False)
    for place, heading in enumerate(table.columns):
        is_worded = place == 0 or place in table.worded
        grid.add_column(printable(heading), justify="left" if is_worded else "right")
    for row in table.all_rows:
        grid.add_row(*map(printable, row), style="bold" if row is table.total else None)
    out = Console(highlight=False, stderr=not is_result)
    out.print(grid)
    for note in table.notes:
        out.print(printable(note), style="dim")
    out.print()
