"""Scores on the terminal, on standard output: the tables of the report, as far as a terminal shows them well."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from math import ceil

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid

from maskwright.core.log import printable
from maskwright.core.records.evaluation import EvaluationRecord, ModelComparisonRecord
from maskwright.reports.formatting import describe_group, format_score, label_of
from maskwright.reports.tables import Table, comparison_table, score_tables


def print_records(records: Sequence[EvaluationRecord]) -> None:
    """Print what tasks found: the tables, and one by one what stands in none of them."""

    for evaluation in records:
        if evaluation.main_metric is None:
            print_scores(evaluation)
            print_examples(evaluation)
    for table in score_tables(records):
        print_table(table)


def print_scores(evaluation: EvaluationRecord) -> None:
    """Print the scores of one task beside its baselines."""

    table = Grid(title=printable(label_of(evaluation.task)), title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    table.add_column("model", justify="right", style="bold")
    for baseline in evaluation.baselines:
        table.add_column(printable(baseline), justify="right", style="dim")
    for name, value in evaluation.scores.items():
        if not name.startswith("sum_"):
            others = [
                format_score(name, values[name]) if name in values else "" for values in evaluation.baselines.values()
            ]
            table.add_row(printable(label_of(name)), format_score(name, value), *others)
    out = Console(highlight=False)
    out.print(table)
    for note in evaluation.notes:
        out.print(printable(note), style="dim")


def print_examples(evaluation: EvaluationRecord) -> None:
    """Print the fill-mask examples of one task; nothing where it has none."""

    out = Console(highlight=False, soft_wrap=True)
    for group, examples in evaluation.examples_by_group:
        if group is not None:
            out.print(f"{printable(describe_group(group))}, as in", style="dim")
        for example in examples:
            guesses = " · ".join(f"{guess['token']} {guess['probability']:.0%}" for guess in example["predictions"])
            out.print(printable(example["text"]))
            out.print(f"  [dim]hidden[/dim] {printable(example['answer'])}  [dim]guesses[/dim] {printable(guesses)}")


def print_comparison(comparison: ModelComparisonRecord) -> None:
    """Print two models side by side; the verdicts stand below, as a terminal has no room for them in the table."""

    table = comparison_table(comparison)
    verdicts = [f"{row.title}: {row.verdict}" for row in comparison.rows]
    print_table(replace(without_columns(table, ["verdict"]), notes=[*verdicts, *table.notes]))


def print_table(table: Table, *, is_result: bool = True, spare: Collection[str] = ()) -> None:
    """Print a table and its notes, the last row in bold where it sums up.

    Text wraps between words: no word is cut, however narrow the terminal.

    Args:
        table: what to print.
        is_result: on standard output; otherwise on stderr.
        spare: columns that are left out, and said to be, where rows would take more than two lines with them.
    """

    out = Console(highlight=False, stderr=not is_result)
    widths, lines = fitted(table, out.width)
    if spare and lines > 2:
        table = without_columns(table, spare)
        widths, _ = fitted(table, out.width)
    grid = Grid(title=printable(table.title), title_justify="left", box=None, pad_edge=False)
    for index, (heading, width) in enumerate(zip(table.columns, widths, strict=True)):
        is_worded = index == 0 or index in table.worded
        grid.add_column(printable(heading), justify="left" if is_worded else "right", width=width)
    for row in table.all_rows:
        grid.add_row(*map(printable, row), style="bold" if row is table.total else None)
    needed = sum(widths) + GAP * len(widths)
    Console(highlight=False, stderr=not is_result, width=max(out.width, needed)).print(grid)
    for note in table.notes:
        out.print(printable(note), style="dim")
    out.print()


GAP = 2
"""Cells between two columns."""


def fitted(table: Table, available: int) -> tuple[list[int], int]:
    """Return the columns' widths in cells, and about how many lines the tallest row then takes.

    Every column gets its longest word; what is left goes, cell by cell, to the one that needs the most lines, and of
    several to the one that soonest needs one less.
    """

    columns = list(zip(table.columns, *table.all_rows, strict=True))
    widths = [max(cell_len(word) for text in column for word in text.split() or [""]) for column in columns]
    whole = [max(map(cell_len, column)) for column in columns]

    def lines(index: int) -> int:
        return ceil(whole[index] / max(widths[index], 1))

    def missing(index: int) -> float:
        return whole[index] / max(lines(index) - 1, 1) - widths[index]

    for _ in range(available - sum(widths) - GAP * (len(columns) - 1)):
        tallest = max(range(len(columns)), key=lambda index: (lines(index), -missing(index)))
        if lines(tallest) <= 1:
            break
        widths[tallest] += 1
    return widths, max(map(lines, range(len(columns))))


def without_columns(table: Table, names: Collection[str]) -> Table:
    """Return a table without some columns, and with a note that says so."""

    kept = [index for index, name in enumerate(table.columns) if name not in names]
    rows = [[row[index] for index in kept] for row in table.rows]
    note = f"Not shown, as the terminal is narrow: {', '.join(names)}."
    return replace(
        table,
        columns=[table.columns[index] for index in kept],
        rows=rows,
        total=table.total and [table.total[index] for index in kept],
        notes=[*table.notes, note],
        worded=frozenset(new for new, old in enumerate(kept) if old in table.worded),
    )
