"""Where a step lies in the run: its phase and how far along, a function of the step alone."""

from dataclasses import dataclass


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
class Course:
    """The phases' lengths in optimizer steps; fixed before the first step, whatever the unit of the budget.

    Attributes:
        phase_steps: steps of each phase.
        fresh_schedules: the phases with which the learning-rate schedule begins again.
    """

    phase_steps: tuple[int, ...]
    fresh_schedules: tuple[int, ...] = ()

    @property
    def num_steps(self) -> int:
        """Steps of the run."""
        return sum(self.phase_steps)

    def position_of(self, step: int) -> StepPosition:
        """Return where step `step`, counted from 0, lies."""
        first = 0
        for phase, num_steps in enumerate(self.phase_steps):
            if step < first + num_steps:
                inside = step - first
                return StepPosition(phase, inside, inside / num_steps, self._schedule_progress(step, phase))
            first += num_steps
        raise IndexError(f"step {step} is after the end of the run, {self.num_steps}")

    def first_step(self, phase: int) -> int:
        """Return the number of a phase's first step; of the step after the last for the phase after the last."""
        return sum(self.phase_steps[:phase])

    def _schedule_progress(self, step: int, phase: int) -> float:
        """Return the middle of the step: at its ends, the first or last update would have a learning rate of 0."""
        begin = max((fresh for fresh in self.fresh_schedules if fresh <= phase), default=0)
        end = min((fresh for fresh in self.fresh_schedules if fresh > phase), default=len(self.phase_steps))
        first = self.first_step(begin)
        return (step + 0.5 - first) / (self.first_step(end) - first)


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
