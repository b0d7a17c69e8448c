"""Hiding tokens: which are selected, how many, what stands in their place; a part that any masked objective takes."""

import math
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from maskwright.core.batches import PackedBatch
from maskwright.core.vocabulary import Vocabulary
from maskwright.objectives.base import ObjectiveConfig
from maskwright.objectives.parts.positions import select_positions
from maskwright.objectives.parts.replacement import Replacement
from maskwright.objectives.parts.schedules import Rate, highest, rate_at


class MaskingOptions(ObjectiveConfig):
    """Options of every objective that hides tokens."""

    rate: Rate = Field(
        default=0.30,
        description="share of the text tokens that are scored, in (0, 1), or {start, end, shape} over the phase; "
        "0.30 as MosaicBERT and ModernBERT, 0.15 as BERT",
    )
    unit: Literal["token", "whole_word"] = Field(
        default="token", description="what is selected: single tokens, or words with all their tokens"
    )
    mask_fraction: float = Field(default=1.0, ge=0, le=1, description="share of the selected tokens replaced by [MASK]")
    random_fraction: float = Field(default=0.0, ge=0, le=1, description="share replaced by a random token (BERT: 0.1)")
    kept_fraction: float = Field(default=0.0, ge=0, le=1, description="share left as it is but scored (BERT: 0.1)")

    @model_validator(mode="after")
    def _fractions_are_a_whole(self) -> Self:
        total = self.mask_fraction + self.random_fraction + self.kept_fraction
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(f"mask_fraction + random_fraction + kept_fraction is {total:g}, it must be 1")
        return self

    @property
    def highest_rate(self) -> float:
        """The highest mask rate of the phase."""
        return highest(self.rate)


@dataclass(frozen=True)
class Masked:
    """What hiding made of a batch.

    Attributes:
        input_ids_T: int64 [T], the corrupted tokens.
        positions: int64, the selected places, ascending; at most `num_slots`.
        num_slots: M, a function of the number of tokens, the options and the progress alone.
    """

    input_ids_T: Tensor
    positions: Tensor
    num_slots: int


class Masking:
    """Selects tokens and replaces them, on the host; pure."""

    def __init__(self, options: MaskingOptions, vocabulary: Vocabulary) -> None:
        """Keep the options."""
        self._options = options
        self._replacement = Replacement(options.mask_fraction, options.random_fraction, vocabulary)

    def __call__(self, batch: PackedBatch, is_text_T: Tensor, generator: torch.Generator, progress: float) -> Masked:
        """Select `rate` of the text tokens and replace them.

        Args:
            batch: clean tokens; not changed.
            is_text_T: bool [T], the tokens that may be selected.
            generator: on the CPU.
            progress: of the phase, in [0, 1].
        """
        rate = rate_at(self._options.rate, progress)
        unit_starts_T = batch.word_starts_T if self._options.unit == "whole_word" else torch.ones_like(is_text_T)
        budget = max(1, round(rate * int(is_text_T.sum())))
        positions = select_positions(is_text_T, unit_starts_T, budget, generator)
        input_ids_T = batch.token_ids_T.clone()
        input_ids_T[positions] = self._replacement(batch.token_ids_T[positions], generator)
        return Masked(input_ids_T, positions, math.ceil(rate * len(input_ids_T)))
