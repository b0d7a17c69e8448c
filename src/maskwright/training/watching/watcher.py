"""What watches a run: it is told of every step, in a fixed order, and never changes what is trained."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from maskwright.training.checkpoint import TrainingState
from maskwright.training.model import Model


@dataclass(frozen=True)
class StepDone:
    """One step of a run, as watchers see it.

    Attributes:
        before: the state before the step.
        state: the state after it.
        phase: index of the phase.
        model: of the phase.
        clean_step: of the last checkpoint that was written or read, and so is finite; None: there is none.
        figures: of the step, by name; a watcher may add figures for those that come after it, and for the loop.
    """

    before: TrainingState
    state: TrainingState
    phase: int
    model: Model
    clean_step: int | None
    figures: dict[str, float]


class Watcher(ABC):
    """Is told of every step, before the run is saved: what was saved has the lines and the exports of all its steps."""

    @abstractmethod
    def after_step(self, step: StepDone) -> None:
        """Look at a step; every rank calls this."""
