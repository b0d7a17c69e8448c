"""Signals that ask a run to save and exit."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from maskwright.core.log import console, is_first_rank


class Interrupts:
    """Turns SIGINT, SIGTERM, SIGHUP and SIGUSR1 into a flag that the loop reads; a second one exits at once.

    The flag makes the loop save at the end of the current step. What was saved before is whole whatever happens.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

    def __init__(self) -> None:
        """Nothing is caught until the block is entered."""
        self.received: signal.Signals | None = None

    def __enter__(self) -> "Interrupts":
        """Begin to catch; in a thread of one's own, where Python lets no handler be set, nothing is caught."""
        is_main = threading.current_thread() is threading.main_thread()
        # What is ignored stays ignored: nohup asks to go on when the terminal is closed.
        caught = [number for number in self.SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._receive) for number in caught} if is_main else {}
        return self

    def __exit__(self, *_: object) -> None:
        """Stop catching."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """Within the block signals do what they did before: for work that may end anywhere and be begun again."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            sys.stderr.write("\nstopped at once; the last checkpoint is whole\n")
            sys.stderr.flush()
            os._exit(128 + number)
        self.received = signal.Signals(number)
        if is_first_rank():
            console.print(f"\n{self.received.name}: saving after this step; once more to stop at once without saving")
