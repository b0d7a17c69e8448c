"""Makes the coming steps' batches in the background, so that the training step never waits for data."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Batches = TypeVar("Batches")

READ_AHEAD_STEPS = 2
"""How many steps before it a step's batches may be made: what they read must have been fixed by then."""


class Loader(Generic[Batches]):
    """Calls a pure function `step -> batches` a few steps ahead, in one thread.

    Since the function is pure, reading ahead can't change what is read: there is no state to save.

    Attributes:
        end_step: where to end; may be changed, for steps that are not asked for yet.
    """

    def __init__(
        self, make: Callable[[int], Batches], first_step: int, end_step: int, depth: int = READ_AHEAD_STEPS
    ) -> None:
        """Start reading ahead.

        Args:
            make: the function; called for `first_step`, `first_step + 1`, ...
            first_step: where to begin.
            end_step: where to end; never called with this or more.
            depth: how many steps to be ahead.
        """
        self._make, self._next, self.end_step = make, first_step, end_step
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self._waiting: deque[Future[Batches]] = deque()
        self.waited_seconds = 0.0
        for _ in range(depth):
            self._ask_for_one()

    def _ask_for_one(self) -> None:
        if self._next < self.end_step:
            self._waiting.append(self._pool.submit(self._make, self._next))
            self._next += 1

    def take(self) -> Batches:
        """Return the next step's batches; an error in making them is raised here."""
        begin = time.perf_counter()
        batches = self._waiting.popleft().result()
        self.waited_seconds += time.perf_counter() - begin
        self._ask_for_one()
        return batches

    def close(self) -> None:
        """Stop reading ahead."""
        self._pool.shutdown(wait=True, cancel_futures=True)
