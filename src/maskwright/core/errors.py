"""The errors a user can meet, each with its exit code, and the one shape their messages have.

A message says what we got, what we expected and what to do; the command line prints it without a traceback.
"""

import difflib
from collections.abc import Iterable


class MaskwrightError(Exception):
    """Base of all errors that are the user's to mend. `exit_code` is the process's, after sysexits.h."""

    exit_code = 1

    def __init__(self, got: str, expected: str = "", to_do: str = "") -> None:
        """Join the parts into a message of at most six short lines.

        Args:
            got: what was found, with the file, line and byte if there are any.
            expected: what was expected instead.
            to_do: what the user can do about it.
        """
        self.got, self.expected, self.to_do = got, expected, to_do
        lines = [got]
        if expected:
            lines.append(f"expected: {expected}")
        if to_do:
            lines.append(f"to do: {to_do}")
        super().__init__("\n".join(lines))


class RunInterrupted(KeyboardInterrupt):
    """A signal asked a run to stop; it was saved, and can be resumed.

    Attributes:
        signal_number: of the signal.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        """Keep the signal's number, which decides the exit code of the command line."""
        super().__init__(message)
        self.signal_number = signal_number


class RecipeError(MaskwrightError, ValueError):
    """A recipe or a command-line value that can't be used."""

    exit_code = 78


class CorpusError(MaskwrightError, ValueError):
    """Text, shards or a tokenizer that can't be used."""

    exit_code = 65


class CheckpointError(MaskwrightError, ValueError):
    """A run folder or checkpoint that can't be read or continued."""

    exit_code = 66


class EvaluationError(MaskwrightError, ValueError):
    """A model or task that can't be scored."""

    exit_code = 67


class MissingData(EvaluationError):
    """A data set that is not there; the message says where to get it and in which layout it is expected."""

    exit_code = 68


class ExportError(MaskwrightError, ValueError):
    """A model folder that can't be written faithfully, or can't be read."""

    exit_code = 76


class MissingDependency(MaskwrightError, ImportError):
    """An optional library is not installed."""

    exit_code = 69


class NonFiniteError(MaskwrightError, ArithmeticError):
    """A loss, gradient or weight was not finite; what was saved before is clean."""

    exit_code = 70


class MemoryShortage(MaskwrightError, MemoryError):
    """The batch does not fit into memory."""

    exit_code = 71


class RunsFailed(MaskwrightError, RuntimeError):
    """Some runs of a comparison failed; the others are whole, and the same command tries again."""

    exit_code = 72


class StorageError(MaskwrightError, OSError):
    """The disk is full or can't be written."""

    exit_code = 74


class RunFolderBusy(MaskwrightError, RuntimeError):
    """Another process is writing to this run folder."""

    exit_code = 75


def suggest_nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name most like `name`, as ", did you mean 'x'?", or an empty string."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", did you mean {matches[0]!r}?" if matches else ""
