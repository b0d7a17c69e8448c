"""What the program prints while it works: lines and progress bars, on a terminal or in a log file."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from rich.console import Console
from rich.control import strip_control_codes
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True, soft_wrap=True, highlight=False)
"""Everything that accompanies work goes to standard error; standard output is for results."""


def is_first_rank() -> bool:
    """Return whether this process prints (rank 0 under torchrun, or the only process)."""
    return os.environ.get("RANK", "0") == "0"


def printable(text: str) -> str:
    """Make text from a corpus safe for a terminal: no control codes, no markup."""
    return escape(strip_control_codes(text.replace("\x1b", "")))


_is_quiet = ContextVar("_is_quiet", default=False)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Leave out what `say` says: what is done inside is a small part of a larger work, which tells of itself."""
    token = _is_quiet.set(True)
    try:
        yield
    finally:
        _is_quiet.reset(token)


def say(text: str) -> None:
    """Print a line about the work, with rich markup."""
    if is_first_rank() and not _is_quiet.get():
        console.print(text)


def warn(text: str) -> None:
    """Print a line that the user should not miss."""
    if is_first_rank():
        console.print(f"[yellow]warning:[/yellow] {text}")


@contextlib.contextmanager
def progress(description: str, total: float | None) -> Iterator[Callable[[float], None]]:
    """Show a progress bar; off a terminal, a plain line every ten seconds.

    Args:
        description: what is being done.
        total: amount of work, in any unit; None if unknown.

    Yields:
        A function that takes how much more was done.
    """
    if not is_first_rank():
        yield lambda amount: None
    elif console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
            task = bar.add_task(description, total=total)
            yield lambda amount: bar.advance(task, amount)
    else:
        with plain_progress(description, total) as advance:
            yield advance


@contextlib.contextmanager
def plain_progress(description: str, total: float | None) -> Iterator[Callable[[float], None]]:
    """`progress` without a terminal: a line every ten seconds."""
    done, spoke = 0.0, time.monotonic()

    def advance(amount: float) -> None:
        nonlocal done, spoke
        done += amount
        if time.monotonic() - spoke > 10:
            spoke = time.monotonic()
            console.print(f"{description}: {done:,.0f}" + (f" of {total:,.0f}" if total else ""))

    yield advance
