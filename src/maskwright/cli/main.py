"""The `maskwright` command: finds the verb, and turns every error a user can mend into one clear message."""

import contextlib
import importlib
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

from maskwright.core.errors import MaskwrightError, RunInterrupted, suggest_nearest

VERBS = {
    "train": ("maskwright.cli.train:train", "from text to a model, its scores and its report"),
    "fill": ("maskwright.cli.fill:fill", "what a model would put where a text says [MASK]"),
    "plan": ("maskwright.cli.plan:plan", "what a recipe will cost on this machine, before anything runs"),
    "tune": ("maskwright.cli.tune:tune", "learning rate and batch of a recipe by short runs"),
    "prepare": ("maskwright.cli.prepare:prepare", "text to token shards"),
    "export": ("maskwright.cli.export:export", "a checkpoint to a Hugging Face folder"),
    "evaluate": ("maskwright.cli.evaluate:evaluate", "score a model"),
    "compare": ("maskwright.cli.compare:compare", "several recipes under one budget, several seeds, one table"),
    "report": ("maskwright.cli.report:report", "draw the report and the model card of a run again"),
    "dictionary": ("maskwright.cli.dictionary:dictionary", "latent semantic atoms from any encoder's hidden states"),
    "profile": ("maskwright.cli.profile:profile", "which latent semantic atoms a word in context is made of"),
    "list": ("maskwright.cli.list:list_plug_ins", "the plug-ins that were discovered"),
    "doctor": ("maskwright.cli.doctor:doctor", "is everything installed, is a corpus or run whole"),
}
"""Every verb: where its arguments are declared, and what it does (the first line of its module says the same)."""

OVERVIEW = """usage: maskwright VERB [ARGUMENTS]

Pre-train your own text encoder: any masked objective, one engine, a Hugging Face model out.

{verbs}

Every verb explains itself: maskwright train --help. Add --debug to see where an error came from."""


STOPPING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Signals that ask to stop: of schedulers and `kill`, of a terminal that is closed, and Slurm's warning."""


class Stopped(BaseException):
    """A signal arrived outside the training loop: unwind, so that nothing half written stays.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        """Keep the signal's number, which decides the exit code."""
        super().__init__()
        self.number = number


def main() -> NoReturn:
    """Run the command line and exit with its code (docs/exit_codes.md has the table)."""
    is_debugging = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup asks to go on when the terminal is closed
            signal.signal(number, _stop)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        sys.exit(0)
    if arguments[0] not in VERBS:
        _fail(
            f"no verb is named {arguments[0]!r}{suggest_nearest(arguments[0], VERBS)}\n"
            f"expected: one of {', '.join(VERBS)}",
            2,
        )
    try:
        run(arguments[0], arguments[1:])
    except MaskwrightError as error:
        if is_debugging:
            raise
        _fail(str(error), error.exit_code)
    except RunInterrupted as stop:
        sys.exit(128 + stop.signal_number)
    except KeyboardInterrupt:
        _fail("interrupted; nothing is half written", 128 + signal.SIGINT)
    except Stopped as stop:
        _fail(f"stopped by {signal.Signals(stop.number).name}; nothing is half written", 128 + stop.number)
    except BrokenPipeError:
        # The reader of our output has left (`maskwright list | head`); there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0)


def overview() -> str:
    """Return what `maskwright --help` prints."""
    width = max(map(len, VERBS))
    return OVERVIEW.format(verbs="\n".join(f"  {verb:{width}}  {line}" for verb, (_, line) in VERBS.items()))


def run(verb: str, arguments: list[str]) -> None:
    """Parse the arguments of a verb, do what it asks for, and show the result.

    The verb's module declares arguments alone, so that `--help` answers before anything heavy is imported.
    """
    work = load("maskwright.cli.parse:parse")(load(VERBS[verb][0]), verb, arguments)
    result = load(work.function)(*work.arguments, **work.options)
    if work.shown_by is not None and result is not None:
        load(work.shown_by)(result)


def load(path: str) -> Any:
    """Import and return "module:name". The one place where something is imported when it is asked for."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(number)


def _fail(message: str, exit_code: int) -> NoReturn:
    with contextlib.suppress(OSError):  # the terminal may be closed
        sys.stderr.write(f"error: {message}\n")
    sys.exit(exit_code)
