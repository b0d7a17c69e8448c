"""Where a step lies in the run: its phase and how far along, a function of the step alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

LARGEST_DENOMINATOR = 10**9
"""Progress is exact up to here, so that equal steps are at equal progress on every machine."""


@dataclass(frozen=True)
class StepPosition:
    """Where one step lies.

    Attributes:
        phase: index of the phase.
        step_in_phase: counted from 0.
        phase_progress: in [0, 1), of the phase; drives the objective's schedules.
        schedule_progress: in (0, 1), of the middle of the step within the phases that share a schedule; drives the
            learning rate.
    """

    phase: int
    step_in_phase: int
    phase_progress: float
    schedule_progress: float


@dataclass(frozen=True)
class Stage:
    """How long phases are, from one step on: what was done before it stays done.

    Attributes:
        begin: the step from which this holds.
        phase_steps: steps of each phase, those before `begin` included.
        phase_done: share of the phase of that step that was done before it, if the phase had begun.
        schedule_done: likewise, of the phases that share a schedule.
        run_done: likewise, of the run.
    """

    begin: int
    phase_steps: tuple[int, ...]
    phase_done: Fraction = Fraction(0)
    schedule_done: Fraction = Fraction(0)
    run_done: Fraction = Fraction(0)

    def first_step(self, phase: int) -> int:
        """Return the number of a phase's first step; of the step after the last for the phase after the last."""
        return sum(self.phase_steps[:phase])

    def progress(self, step: Fraction | int, first: int, end: int, done: Fraction) -> Fraction:
        """Return the share of a stretch of steps that is done before a step, or a point within one.

        Args:
            step: counted from 0, of the run.
            first, end: the stretch.
            done: share of it that was done at `begin`, if it had begun then.
        """
        if first >= self.begin:
            return Fraction(step - first, end - first)
        return done + (1 - done) * Fraction(step - self.begin, end - self.begin)


class Course:
    """The phases' lengths in optimizer steps.

    They are decided before the first step. Where a run keeps to hours, they change on the way (`engine/hours.py`): the
    progress that was made stays, and the rest is spread over the steps that are left.
    """

    def __init__(
        self,
        phase_steps: tuple[int, ...],
        fresh_schedules: tuple[int, ...] = (),
        changes: Sequence[tuple[int, tuple[int, ...]]] = (),
    ) -> None:
        """Take what was planned.

        Args:
            phase_steps: steps of each phase.
            fresh_schedules: the phases with which the learning-rate schedule begins again.
            changes: what was changed since, in order, see `change`.
        """
        self.fresh_schedules = fresh_schedules
        self._stages = [Stage(0, tuple(phase_steps))]
        for begin, changed in changes:
            self.change(begin, changed)

    def change(self, begin: int, phase_steps: tuple[int, ...]) -> None:
        """Let phases end elsewhere, from a step on; its phase is the same, and so are those before it.

        Args:
            begin: a step of no earlier stage, before which nothing changes.
            phase_steps: steps of each phase, those before `begin` included.
        """
        before = self._stages[-1]
        phase = self.position_of(begin).phase
        first, end = self._schedule_of(phase, before)
        done = (
            before.progress(begin, before.first_step(phase), before.first_step(phase + 1), before.phase_done),
            before.progress(begin, first, end, before.schedule_done),
            self.progress(begin),
        )
        exact = (each.limit_denominator(LARGEST_DENOMINATOR) for each in done)
        self._stages.append(Stage(begin, tuple(phase_steps), *exact))

    @property
    def planned_steps(self) -> tuple[int, ...]:
        """Steps of each phase as they were planned before the first."""
        return self._stages[0].phase_steps

    @property
    def phase_steps(self) -> tuple[int, ...]:
        """Steps of each phase, as they stand now."""
        return self._stages[-1].phase_steps

    @property
    def num_steps(self) -> int:
        """Steps of the run, as they stand now."""
        return sum(self.phase_steps)

    def progress(self, step: int) -> Fraction:
        """Return the share of the run that is done before a step, counted from 0; 1 after the last."""
        stage = self._stage_of(step)
        return stage.progress(step, 0, sum(stage.phase_steps), stage.run_done)

    def position_of(self, step: int) -> StepPosition:
        """Return where step `step`, counted from 0, lies."""
        stage, first = self._stage_of(step), 0
        for phase, num_steps in enumerate(stage.phase_steps):
            end = first + num_steps
            if step < end:
                of_phase = stage.progress(step, first, end, stage.phase_done)
                # The middle of the step: at its ends, the first or last update would have a learning rate of 0.
                middle = step + Fraction(1, 2)
                of_schedule = stage.progress(middle, *self._schedule_of(phase, stage), stage.schedule_done)
                return StepPosition(phase, step - first, float(of_phase), float(of_schedule))
            first = end
        raise IndexError(f"step {step} is after the end of the run, {self.num_steps}")

    def first_step(self, phase: int) -> int:
        """Return the number of a phase's first step; of the step after the last for the phase after the last."""
        return self._stages[-1].first_step(phase)

    def _stage_of(self, step: int) -> Stage:
        return next(stage for stage in reversed(self._stages) if stage.begin <= step)

    def _schedule_of(self, phase: int, stage: Stage) -> tuple[int, int]:
        """Return the first step of the phases that share a phase's schedule, and the step after their last."""
        begin = max((fresh for fresh in self.fresh_schedules if fresh <= phase), default=0)
        end = min((fresh for fresh in self.fresh_schedules if fresh > phase), default=len(stage.phase_steps))
        return stage.first_step(begin), stage.first_step(end)


def split_by_shares(total: float, shares: list[float], cost_per_step: list[float]) -> tuple[int, ...]:
    """Return how many steps each phase gets, at least one.

    Args:
        total: the budget, in any unit.
        shares: of the phases, relative to one another.
        cost_per_step: of each phase, in the budget's unit.
    """
    return tuple(
        max(1, round(total * share / sum(shares) / cost)) for share, cost in zip(shares, cost_per_step, strict=True)
    )
