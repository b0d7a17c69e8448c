"""Hiding tokens: which are selected, how many, and what stands in their place."""

import math
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from maskwright.batching.row_plan import NUM_SPECIALS
from maskwright.core.batches import PackedBatch
from maskwright.core.errors import RecipeError
from maskwright.core.options import Options
from maskwright.core.plug_in_field import Chosen, ChosenFrom
from maskwright.core.vocabulary import Vocabulary
from maskwright.masking.corruption import Corruption
from maskwright.masking.rates import Rate, highest, lowest, rate_at
from maskwright.masking.replacement import Replacement
from maskwright.masking.selection import select_positions
from maskwright.masking.strategies.base import Strategy

STRATEGIES = ChosenFrom("maskwright.masking.strategies", Strategy)


class HidingOptions(Options):
    """How many tokens are hidden, and what stands in their place."""

    rate: Rate = Field(
        default=0.30,
        description="share of the text tokens that are scored, in (0, 1), or {start, end, shape} over the phase; "
        "0.30 as MosaicBERT and ModernBERT, 0.15 as BERT",
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


class MaskingOptions(HidingOptions):
    """Options of every objective that hides tokens which a strategy selects."""

    strategy: Annotated[Chosen[Strategy], STRATEGIES] = Field(
        default_factory=lambda: STRATEGIES.choose("token"),
        description="which tokens are hidden together, and which more often: the name of a plug-in of "
        "masking/strategies (token, whole_word, span ...), or a mapping of `name` and its options",
    )


def num_masks(options: HidingOptions, row_length: int, rate: float, text_share: float = 1.0) -> int:
    """Return how many masks a mean row has.

    Args:
        options: give the share of masks among what is scored.
        row_length: tokens in a row.
        rate: share of the text that is scored.
        text_share: tokens of text in the mean row, as a share of what one sequence as long as the row would hold.
    """
    return round(rate * options.mask_fraction * text_share * (row_length - NUM_SPECIALS))


def require_masks_and_text(options: HidingOptions, row_length: int) -> None:
    """Refuse a rate at which rows would have nothing masked, or nothing left to read.

    Raises:
        RecipeError: the rate is too low or too high for rows so short, at some time of the phase.
    """
    fewest, most = (num_masks(options, row_length, rate) for rate in (lowest(options.rate), highest(options.rate)))
    num_text = row_length - NUM_SPECIALS
    if options.mask_fraction > 0 and fewest == 0:
        raise RecipeError(
            f"no token would be masked in a sequence of {row_length}: {num_text} tokens of text x rate "
            f"{lowest(options.rate):g} x mask_fraction {options.mask_fraction:g}",
            "at least one",
            "a higher rate, or a longer sequence_length",
        )
    if most >= num_text:
        raise RecipeError(
            f"no token would be left visible in a sequence of {row_length}: all {num_text} tokens of text are masked "
            f"at rate {highest(options.rate):g} x mask_fraction {options.mask_fraction:g}",
            "at least one",
            "a lower rate, or a longer sequence_length",
        )


def make_strategy(chosen: Chosen[Strategy], vocabulary: Vocabulary) -> Strategy:
    """Return the strategy that a recipe names.

    Raises:
        RecipeError: the strategy needs words, and the tokenizer has none.
    """
    if chosen.plug_in.needs_words and not vocabulary.has_words:
        raise RecipeError(
            f"strategy: {chosen.name} hides whole words, and this tokenizer does not say where words begin",
            "a tokenizer that splits text into words first",
            "take strategy: token, or train a tokenizer (leave tokenizer.existing out)",
        )
    return chosen.plug_in(chosen.options, vocabulary)


class Masking(nn.Module):
    """Selects tokens and replaces them, on the host; pure.

    Attributes:
        strategy: which tokens. The objective passes its own `begin` and `after_step` on to it, and shows it how hidden
            tokens were predicted.
    """

    def __init__(self, options: MaskingOptions, vocabulary: Vocabulary) -> None:
        """Make the strategy; see `make_strategy`."""
        super().__init__()
        self._options = options
        self.strategy = make_strategy(options.strategy, vocabulary)
        self._replacement = Replacement(options.mask_fraction, options.random_fraction, vocabulary)

    def forward(
        self, packed: PackedBatch, is_text_T: Tensor, generator: torch.Generator, progress: float
    ) -> Corruption:
        """Select `rate` of the text tokens and replace them.

        Args:
            packed: clean tokens; not changed.
            is_text_T: bool [T], the tokens that may be selected.
            generator: on the CPU.
            progress: of the phase, in [0, 1].
        """
        rate = rate_at(self._options.rate, progress)
        units = self.strategy.units(packed, is_text_T, generator, progress)
        budget = max(1, round(rate * int(is_text_T.sum())))
        positions = select_positions(is_text_T, units.starts_T, budget, generator, units.weights_T)
        token_ids_T = packed.token_ids_T.clone()
        token_ids_T[positions] = self._replacement(packed.token_ids_T[positions], generator)
        return Corruption.of(packed, token_ids_T, positions, math.ceil(rate * len(token_ids_T)), units.starts_T)
