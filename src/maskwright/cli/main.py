"""The `maskwright` command: finds the verb, and turns every error a user can mend into one clear message."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import tyro

from maskwright.cli.compare import compare
from maskwright.cli.dictionary import dictionary
from maskwright.cli.doctor import doctor
from maskwright.cli.evaluate import evaluate
from maskwright.cli.export import export
from maskwright.cli.fill import fill
from maskwright.cli.list import list_plug_ins
from maskwright.cli.plan import plan
from maskwright.cli.prepare import prepare
from maskwright.cli.profile import profile
from maskwright.cli.report import report
from maskwright.cli.train import train
from maskwright.core.errors import MaskwrightError, suggest_nearest

VERBS = {
    "train": train,
    "fill": fill,
    "plan": plan,
    "prepare": prepare,
    "export": export,
    "evaluate": evaluate,
    "compare": compare,
    "report": report,
    "dictionary": dictionary,
    "profile": profile,
    "list": list_plug_ins,
    "doctor": doctor,
}


class Stopped(BaseException):
    """SIGTERM arrived outside the training loop: unwind, so that nothing half written stays."""


def main() -> NoReturn:
    """Run the command line and exit with its code (docs/exit_codes.md has the table)."""
    is_debugging = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    signal.signal(signal.SIGTERM, _stop)
    if arguments and not arguments[0].startswith("-") and arguments[0] not in VERBS:
        _fail(
            f"no verb is named {arguments[0]!r}{suggest_nearest(arguments[0], VERBS)}\n"
            f"expected: one of {', '.join(VERBS)}",
            2,
        )
    try:
        tyro.extras.subcommand_cli_from_dict(
            VERBS,
            prog="maskwright",
            description="Pre-train your own text encoder: any masked objective, one engine, a Hugging Face model out.\n"
            "Every verb explains itself: maskwright train --help. Add --debug to see where an error came from.",
            args=arguments or ["--help"],
            config=(tyro.conf.OmitArgPrefixes,),
        )
    except MaskwrightError as error:
        if is_debugging:
            raise
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted; nothing is half written", 128 + signal.SIGINT)
    except Stopped:
        _fail("stopped by SIGTERM; nothing is half written", 128 + signal.SIGTERM)
    except BrokenPipeError:
        # The reader of our output has left (`maskwright list | head`); there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped


def _fail(message: str, exit_code: int) -> NoReturn:
    sys.stderr.write(f"error: {message}\n")
    sys.exit(exit_code)
