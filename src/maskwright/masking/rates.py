"""A number that may change over a phase, such as a mask rate that falls from 0.40 to 0.15."""

import math
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from maskwright.core.options import Options


class RateSchedule(Options):
    """A rate that moves from `start` to `end` over the phase's progress."""

    start: float = Field(gt=0, lt=1, description="rate at the beginning of the phase")
    end: float = Field(gt=0, lt=1, description="rate at its end")
    shape: Literal["linear", "cosine", "step"] = Field(
        default="linear", description="how it moves from one to the other: evenly, slowly at both ends, or at once"
    )
    step_at: float = Field(default=0.5, gt=0, lt=1, description="progress at which the shape `step` changes")

    def at(self, progress: float) -> float:
        """Return the rate at `progress` in [0, 1]."""
        travelled = {
            "linear": progress,
            "cosine": (1 - math.cos(math.pi * progress)) / 2,
            "step": float(progress >= self.step_at),
        }[self.shape]
        return self.start + (self.end - self.start) * travelled


CONSTANT, SCHEDULE = "[constant]", "[schedule]"
"""Tags; see `core.validation` for the brackets."""


def _kind(value: object) -> str:
    return SCHEDULE if isinstance(value, (dict, RateSchedule)) else CONSTANT


Rate = Annotated[
    Annotated[float, Field(gt=0, lt=1), Tag(CONSTANT)] | Annotated[RateSchedule, Tag(SCHEDULE)],
    Discriminator(_kind),
]
"""A constant rate in (0, 1), or a `RateSchedule`."""


def rate_at(rate: float | RateSchedule, progress: float) -> float:
    """Return the rate at `progress` in [0, 1]."""
    return rate.at(progress) if isinstance(rate, RateSchedule) else rate


def lowest(rate: float | RateSchedule) -> float:
    """Return the smallest value that the rate takes."""
    return min(rate.start, rate.end) if isinstance(rate, RateSchedule) else rate


def highest(rate: float | RateSchedule) -> float:
    """Return the largest value that the rate takes."""
    return max(rate.start, rate.end) if isinstance(rate, RateSchedule) else rate
