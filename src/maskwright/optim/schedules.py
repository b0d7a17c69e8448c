"""The learning rate over a run, as a factor of its peak: a function of progress alone."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from maskwright.core.options import Options


class ScheduleConfig(Options):
    """How the learning rate moves over the run."""

    name: Literal["warmup_stable_decay", "linear", "cosine"] = Field(
        default="warmup_stable_decay",
        description="warmup_stable_decay: up, flat, then down as 1 - sqrt (ModernBERT); linear and cosine: up, then "
        "down over the whole rest (BERT: linear)",
    )
    warmup_fraction: float = Field(default=0.06, ge=0, lt=1, description="share of the run spent on the way up")
    decay_fraction: float = Field(default=0.2, ge=0, le=1, description="share of the run spent on the way down")
    final_fraction: float = Field(
        default=0.0, ge=0, le=1, description="the last learning rate, as a fraction of the peak"
    )

    @model_validator(mode="after")
    def _fits_into_the_run(self) -> Self:
        if self.name == "warmup_stable_decay" and self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError(
                f"warmup_fraction + decay_fraction is {self.warmup_fraction + self.decay_fraction:g}, at most 1 fits"
            )
        return self

    def factor(self, progress: float) -> float:
        """Return the factor of the peak learning rate at `progress` in [0, 1] of the run."""
        if progress < self.warmup_fraction:
            return progress / self.warmup_fraction
        if self.name == "warmup_stable_decay":
            decay_begin = 1 - self.decay_fraction
            shape = 1.0 if progress <= decay_begin else 1 - math.sqrt((progress - decay_begin) / self.decay_fraction)
        else:
            travelled = (progress - self.warmup_fraction) / (1 - self.warmup_fraction)
            shape = 1 - travelled if self.name == "linear" else (1 + math.cos(math.pi * travelled)) / 2
        return self.final_fraction + (1 - self.final_fraction) * shape
