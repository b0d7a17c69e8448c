"""Keeps a run to the hours that were asked for, on a machine whose speed changes on the way.

Hours become steps by timing the machine before the first step (`timing.py`). Then every step is watched: where the
phase under way would end earlier or later than its share of the time, its length and those after it are changed a few
steps ahead, and the progress of schedules is spread over the steps that are left, so that the learning rate comes down
to its end. Each change is written into the run's record before it takes effect. A run that is resumed makes the same
changes at the same steps, so that it repeats to the bit what it had done (tests/resume/test_hours.py).
"""

from collections import deque
from dataclasses import dataclass, field

from maskwright.batching.loader import READ_AHEAD_STEPS
from maskwright.core.log import say
from maskwright.core.records.run import CourseChange, RunRecord
from maskwright.training.run import Run
from maskwright.training.timeline import Course

SHARE_OF_WINDOW = 0.02
"""The pace is that of the last steps, which took so much of the hours, but of so many steps at least and at most:"""
LEAST_STEPS_OF_WINDOW, MOST_STEPS_OF_WINDOW = 3, 256
"""With more steps the pace would be no surer, and after every step it would take longer to find."""

TRIMMED_SHARE = 0.1
"""Of the steps in the window so many are left out, the slowest, one at least: they say nothing of those to come."""

MOST_SHRINKAGE = 4
"""What is left of a phase is cut to no less than its part over this in one change, so that the next can correct it."""

TOLERATED_SHARE, TOLERATED_SHARE_OF_REST = 0.003, 0.02
"""A phase may be foreseen to miss its end by so much of the hours, and by so much of the time that it has left."""

WORTH_SAYING = 0.05
"""A run that becomes longer or shorter by so much, since it was last said, is told of."""


@dataclass
class HourKeeper:
    """Decides when the phases of a run change their length.

    Attributes:
        seconds: that the run may take.
        shares: of the phases, relative to one another.
        course: of the run; `decide` says how it is to change and leaves it.
        not_before: the step before which nothing is decided: what was decided before a resume holds until then.
    """

    seconds: float
    shares: tuple[float, ...]
    course: Course
    not_before: int = 0
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_STEPS_OF_WINDOW))
    _phase: int | None = None

    def decide(self, step: int, elapsed: float, step_seconds: float) -> tuple[int, tuple[int, ...]] | None:
        """Take notice of a step, and return what `Course.change` is to be called with, or None.

        Args:
            step: steps done.
            elapsed: seconds of all steps of the run.
            step_seconds: of this one.
        """
        phase = self.course.position_of(step - 1).phase
        if phase != self._phase:
            # The first step of a phase, or after a resume, pays for compilation: it says nothing of those that follow.
            self._phase = phase
            self._recent.clear()
            return None
        self._recent.append(step_seconds)
        while len(self._recent) > LEAST_STEPS_OF_WINDOW and sum(self._recent) > SHARE_OF_WINDOW * self.seconds:
            self._recent.popleft()
        begin, end = step + READ_AHEAD_STEPS + 1, self.course.first_step(phase + 1)
        if len(self._recent) < LEAST_STEPS_OF_WINDOW or step < self.not_before or begin >= end:
            return None
        kept = sorted(self._recent)[: -max(1, round(TRIMMED_SHARE * len(self._recent)))]
        pace = sum(kept) / len(kept)
        left = sum(self._phase_seconds[: phase + 1]) - elapsed
        if abs((end - step) * pace - left) <= TOLERATED_SHARE * self.seconds + TOLERATED_SHARE_OF_REST * abs(left):
            return None
        least = max(begin + 1 - step, (end - step) // MOST_SHRINKAGE)
        changed = self._phase_steps(step, max(least, round(left / pace)), phase, pace)
        if changed == self.course.phase_steps:
            return None
        self.not_before = step + LEAST_STEPS_OF_WINDOW
        return begin, changed

    @property
    def _phase_seconds(self) -> list[float]:
        """What each phase may take."""
        return [self.seconds * share / sum(self.shares) for share in self.shares]

    def _phase_steps(self, step: int, steps_left: int, phase: int, pace: float) -> tuple[int, ...]:
        """Return the steps of all phases: of this one so many more; of later ones by how much slower this one is."""
        planned = self.course.planned_steps
        slowdown = pace / (self._phase_seconds[phase] / planned[phase])
        steps = list(self.course.phase_steps)
        steps[phase] = step - self.course.first_step(phase) + steps_left
        for later in range(phase + 1, len(steps)):
            steps[later] = max(1, round(planned[later] / slowdown))
        return tuple(steps)


class RunHours:
    """Keeps a run to its hours: all processes decide as the first does, and the run's record has every change."""

    def __init__(self, run: Run) -> None:
        """Take up a run, begun or new."""
        hours = run.recipe.budget.hours
        assert hours is not None
        shares = tuple(phase.share for phase in run.recipe.phases)
        not_before = max((change.step for change in run.plan.changes), default=0)
        self._run, self._keeper = run, HourKeeper(3600 * hours, shares, run.course, not_before)
        self._said = run.course.num_steps

    def after_step(self, step: int, elapsed: float, step_seconds: float) -> None:
        """Change the run's course if it would miss its hours; see `HourKeeper.decide` for the arguments."""
        run, mine = self._run, [elapsed, step_seconds]
        elapsed, step_seconds = run.ranks.sum(mine if run.ranks.is_first else [0.0, 0.0], run.device)
        change = self._keeper.decide(step, elapsed, step_seconds)
        if change is None:
            return
        begin, phase_steps = change
        if run.ranks.is_first:
            record, path = RunRecord.read(run.folder.run_record), run.folder.run_record
            noted = CourseChange(step=begin, phase_steps=list(phase_steps), seconds=round(elapsed, 3))
            record.model_copy(update={"plan": record.plan.changed(noted)}).write(path)
        run.ranks.wait()
        run.course.change(begin, phase_steps)
        if abs(run.course.num_steps - self._said) > WORTH_SAYING * self._said:
            say(f"to keep to {self._keeper.seconds / 3600:g} hours: {run.course.num_steps:,} steps, not {self._said:,}")
            self._said = run.course.num_steps


def hours_of(run: Run) -> RunHours | None:
    """Return what keeps a run to its hours; None if its budget is another, or its steps are fixed."""
    return RunHours(run) if run.plan.keeps_hours else None
