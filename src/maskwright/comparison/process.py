"""Runs `maskwright` as a separate process and forwards signals to it; its failure affects no other run.

A comparison trains each run in a process of its own: a run that the operating system kills, or whose memory is in
pieces, leaves the others alone; each is timed and compiled as if it were the only one; and what runs is a command that
can be typed by hand, here or on another machine.
"""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

from maskwright.core import errors
from maskwright.core.errors import MaskwrightError
from maskwright.training.safety.interrupts import Interrupts


@dataclass(frozen=True)
class ProcessResult:
    """How a command ended.

    Attributes:
        code: its exit code; minus the number of the signal that killed it.
        stopped_by: the signal that this process was sent meanwhile, and passed on.
    """

    code: int
    stopped_by: signal.Signals | None = None


Launch = Callable[[Sequence[str]], ProcessResult]
"""Runs `maskwright` with some arguments."""


def launch(arguments: Sequence[str]) -> ProcessResult:
    """Run `maskwright` with the given arguments and wait. Results go to disk, its log to standard error."""
    command = [sys.executable, "-m", "maskwright", *arguments]
    # In a process group of its own: Ctrl-C reaches it once, through us, and it saves. Twice would stop it at once.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, process_group=0)
    received: list[signal.Signals] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in Interrupts.SIGNALS}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return ProcessResult(code, received[0] if received else None)


def problem_in_words(code: int) -> str:
    """Return what an exit code other than 0 means (docs/exit_codes.md has the table)."""
    number = -code if code < 0 else code - 128
    if number in {each.value for each in signal.Signals}:
        name = signal.Signals(number).name
        return f"killed by {name}" + ("; the machine may be short of memory" if name == "SIGKILL" else "")
    known = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, MaskwrightError)]
    meanings = {each.exit_code: (each.__doc__ or "").partition("\n")[0].rstrip(".") for each in known}
    if code > 1 and code in meanings:
        return f"{meanings[code]} (exit code {code})"
    return f"ended with exit code {code}"
