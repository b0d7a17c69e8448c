"""Hiding as many tokens in every row of a batch, so that what is left has a fixed shape."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maskwright.batching.row_plan import NUM_SPECIALS
from maskwright.core.batches import PackedBatch
from maskwright.core.errors import RecipeError
from maskwright.core.vocabulary import Vocabulary
from maskwright.masking.corruption import Corruption
from maskwright.masking.masking import MaskingOptions, make_strategy, num_masks
from maskwright.masking.rates import rate_at
from maskwright.masking.replacement import Replacement
from maskwright.masking.selection import unit_order


@dataclass(frozen=True)
class RowCorruption(Corruption):
    """A corruption that hides as many tokens in every row.

    Attributes:
        is_dropped_T: bool [T], the positions that hold [MASK], and as much padding as makes them equally many in every
            row.
    """

    is_dropped_T: Tensor


@dataclass(frozen=True)
class _Quota:
    """How many tokens of each row are scored, and how many of those are [MASK]; int64 [R]."""

    scored_R: Tensor
    masked_R: Tensor


class RowMasking(nn.Module):
    """Selects tokens and replaces them, on the host; pure.

    The share of scored tokens is the rate, as `Masking` has it. How many of them are [MASK] is the same for every row:
    rows with less text have fewer random and kept tokens instead. Where padding ends a row, it makes up for missing
    masks. Where whole words are asked for, one word per row may be hidden in part.
    """

    def __init__(self, options: MaskingOptions, vocabulary: Vocabulary) -> None:
        """Make the strategy; see `make_strategy`."""
        super().__init__()
        self.strategy = make_strategy(options.strategy, vocabulary)
        self._options, self._pad_id, self._mask_id = options, vocabulary.pad_id, vocabulary.mask_id
        self._others_fraction = options.random_fraction + options.kept_fraction
        self._other = Replacement(0.0, options.random_fraction / (self._others_fraction or 1.0), vocabulary)
        self.text_share = 1.0
        """Tokens of text in the mean row, as a share of what one sequence as long as the row would hold."""

    def num_dropped(self, row_length: int, rate: float) -> int:
        """Return how many positions every row loses."""
        return num_masks(self._options, row_length, rate, self.text_share)

    def forward(
        self, batch: PackedBatch, is_text_T: Tensor, generator: torch.Generator, progress: float
    ) -> RowCorruption:
        """Select `rate` of the text tokens and replace them.

        Args:
            batch: clean tokens; not changed.
            is_text_T: bool [T], the tokens that may be selected.
            generator: on the CPU.
            progress: of the phase, in [0, 1].

        Raises:
            RecipeError: a row has too little text.
        """
        rate, row_length = rate_at(self._options.rate, progress), batch.layout.row_length
        dropped = self.num_dropped(row_length, rate)
        is_text_RL = is_text_T.view(-1, row_length)
        is_padding_RL = (batch.token_ids_T == self._pad_id).view(-1, row_length)
        quota = self._quota(is_text_RL.sum(1), is_padding_RL.sum(1), rate, dropped, row_length)

        units = self.strategy.units(batch, is_text_T, generator, progress)
        order_T = unit_order(units.starts_T, units.weights_T, generator)
        is_scored_RL = _first(order_T.view_as(is_text_RL), is_text_RL, quota.scored_R)
        draw_RL = torch.rand(is_text_RL.shape, generator=generator)
        is_masked_RL = _first(draw_RL, is_scored_RL, quota.masked_R)
        from_the_end_L = torch.arange(row_length, 0, -1).expand_as(is_text_RL)
        is_dropped_RL = is_masked_RL | _first(from_the_end_L, is_padding_RL, dropped - quota.masked_R)

        input_ids_T = batch.token_ids_T.masked_fill(is_masked_RL.flatten(), self._mask_id)
        others = (is_scored_RL & ~is_masked_RL).flatten().nonzero().squeeze(1)
        input_ids_T[others] = self._other(batch.token_ids_T[others], generator)
        positions = is_scored_RL.flatten().nonzero().squeeze(1)
        num_slots = len(is_text_RL) * _most_scored(row_length, rate)
        corruption = Corruption.of(batch, input_ids_T, positions, num_slots, units.starts_T)
        return RowCorruption(**vars(corruption), is_dropped_T=is_dropped_RL.flatten())

    def _quota(self, num_text_R: Tensor, num_padding_R: Tensor, rate: float, dropped: int, row_length: int) -> _Quota:
        """Share out what is to be scored and masked; rounding is carried from row to row, so that the sum is exact."""
        needed_R = dropped - num_padding_R
        if bool(((needed_R > 0) & (needed_R >= num_text_R)).any()):
            row = int((needed_R - num_text_R).argmax())
            raise RecipeError(
                f"a row of {row_length} tokens holds {int(num_text_R[row])} tokens of text and many short sequences; "
                f"{dropped} of every row are to be left out",
                "at least one visible token of text in every row",
                "lower the objective's rate, or join very short documents",
            )
        most_scored = _most_scored(row_length, rate)
        wanted_R = (rate * num_text_R.double().cumsum(0) + 0.5).floor().long()
        scored_R = wanted_R.diff(prepend=wanted_R.new_zeros(1)).clamp(max=most_scored).minimum(num_text_R)
        masked_R = (rate * self._options.mask_fraction * num_text_R.double()).round().long().clamp(max=dropped)
        masked_R = masked_R.maximum(needed_R).minimum(num_text_R - 1).clamp(min=0)
        return _Quota(scored_R.maximum(masked_R) if self._others_fraction else masked_R, masked_R)


def _most_scored(row_length: int, rate: float) -> int:
    return math.ceil(rate * (row_length - NUM_SPECIALS))


def _first(order_RL: Tensor, is_eligible_RL: Tensor, count_R: Tensor) -> Tensor:
    """Return, for each row, the eligible positions that come first in an order: bool [R, L]."""
    order_RL = order_RL.to(torch.float64).masked_fill(~is_eligible_RL, math.inf)
    rank_RL = order_RL.argsort(dim=1, stable=True).argsort(dim=1)
    return rank_RL < count_R[:, None]
