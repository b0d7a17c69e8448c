"""Scores on the terminal, on standard output."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskwright.core.records import ComparisonRecord, EvaluationRecord


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


def print_records(records: Sequence["EvaluationRecord"]) -> None:
    """Print what tasks found, and their notes."""
    for evaluation in records:
        print_scores(evaluation)
        print_examples(evaluation)


def print_comparison(comparison: "ComparisonRecord") -> None:
    """Print two models side by side."""
    from rich.console import Console
    from rich.table import Table

    from maskwright.core.log import printable

    table = Table(box=None, pad_edge=False)
    for heading in ("", printable(comparison.model), printable(comparison.other), "difference"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_column("verdict")
    for row in comparison.rows:
        numbers = (f"{100 * row.model_mean:.1f}", f"{100 * row.other_mean:.1f}", f"{100 * row.difference:+.1f}")
        table.add_row(printable(row.title), *numbers, printable(row.verdict))
    out = Console(highlight=False)
    out.print(table)
    for note in comparison.notes:
        out.print(printable(note), style="dim")
