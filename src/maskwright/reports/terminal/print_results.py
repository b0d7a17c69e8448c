"""Prints what a verb returned, in a terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.table import Table

from maskwright.core.log import printable


class Guess(Protocol):
    """A token and how likely it is."""

    token: str
    probability: float


class FilledText(Protocol):
    """A text with the best guesses for each of its masks."""

    text: str
    guesses: Sequence[Sequence[Guess]]


class CorpusOnDisk(Protocol):
    """A prepared corpus."""

    folder: Path
    collocations: Path | None


def print_filled(filled: FilledText) -> None:
    """Print a text with the best guesses for each mask, and a bar for each."""
    out = Console(highlight=False, soft_wrap=True)
    out.print(f"[bold]{printable(filled.text)}[/bold]")
    for number, guesses in enumerate(filled.guesses, start=1):
        title = f"mask {number}" if len(filled.guesses) > 1 else ""
        table = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
        table.add_column(justify="right")
        table.add_column()
        table.add_column()
        for guess in guesses:
            bar = "█" * round(30 * guess.probability)
            table.add_row(f"{100 * guess.probability:.1f} %", printable(guess.token), f"[blue]{bar}[/blue]")
        out.print(table)


def print_plan(foreseen: Sequence[tuple[str, str]]) -> None:
    """Print what a recipe will cost, or why it was chosen, as names and values."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="left", style="bold")
    for name, value in foreseen:
        table.add_row(name, value)
    Console(highlight=False).print(table)


def print_corpus(corpus: CorpusOnDisk) -> None:
    """Print where a prepared corpus is, for scripts to read."""
    print(corpus.folder)
    if corpus.collocations is not None:
        print(corpus.collocations)


def print_paths(paths: Sequence[Path]) -> None:
    """Print paths, one a line."""
    for path in paths:
        print(path)
