"""The live line of a run: loss, tokens/s, utilisation and time left; plain lines if there is no terminal."""

import time
from typing import Self

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from maskwright.core.log import console, is_first_rank
from maskwright.training.timeline import Course
from maskwright.training.watching.watcher import StepDone, Watcher

SECONDS_BETWEEN_LINES = 15
"""How often a line is printed off a terminal."""


class Display(Watcher):
    """Shows how training goes."""

    def __init__(self, course: Course, first_step: int) -> None:
        """Prepare; nothing is shown until the block is entered."""
        self._course, self._first = course, first_step
        self._bar = None
        self._spoke = 0.0
        if is_first_rank() and console.is_terminal:
            self._bar = Progress(
                TextColumn("training"),
                BarColumn(bar_width=24),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TextColumn("{task.fields[facts]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task("training", total=course.num_steps, completed=first_step, facts="")

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop showing."""
        if self._bar:
            self._bar.stop()

    def after_step(self, step: StepDone) -> None:
        figures, steps_done, num_steps = step.figures, step.state.step, self._course.num_steps
        facts = (
            f"loss {figures['loss']:.3f}  {figures['tokens_per_second']:,.0f} tokens/s  "
            f"{figures['utilisation']:.0%} of peak"
        )
        if self._bar:
            self._bar.update(self._task, total=num_steps, completed=steps_done, facts=facts)
        elif is_first_rank() and (
            time.monotonic() - self._spoke > SECONDS_BETWEEN_LINES or steps_done in (1, num_steps)
        ):
            self._spoke = time.monotonic()
            console.print(f"step {steps_done}/{num_steps}  {facts}")
