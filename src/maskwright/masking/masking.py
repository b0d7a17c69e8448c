"""Hiding tokens: which are selected, how many, what stands in their place; a part that any masked objective takes."""

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from pydantic import Field, ValidationError, field_validator, model_validator
from torch import Tensor, nn

from maskwright.batching.row_plan import NUM_SPECIALS
from maskwright.core.batches import PackedBatch
from maskwright.core.discovery import load_plug_in
from maskwright.core.errors import RecipeError
from maskwright.core.options import Options
from maskwright.core.validation import problem_in_words
from maskwright.core.vocabulary import Vocabulary
from maskwright.masking.rates import Rate, highest, lowest, rate_at
from maskwright.masking.replacement import Replacement
from maskwright.masking.selection import select_positions
from maskwright.masking.strategies.base import Strategy, StrategyConfig

STRATEGIES = "maskwright.masking.strategies"


class MaskingOptions(Options):
    """Options of every objective that hides tokens."""

    rate: Rate = Field(
        default=0.30,
        description="share of the text tokens that are scored, in (0, 1), or {start, end, shape} over the phase; "
        "0.30 as MosaicBERT and ModernBERT, 0.15 as BERT",
    )
    strategy: dict[str, Any] = Field(
        default_factory=lambda: {"name": "token"},
        description="which tokens are hidden together, and which more often: the name of a plug-in of "
        "masking/strategies (token, whole_word, span ...), or a mapping of `name` and its options",
    )
    mask_fraction: float = Field(default=1.0, ge=0, le=1, description="share of the selected tokens replaced by [MASK]")
    random_fraction: float = Field(default=0.0, ge=0, le=1, description="share replaced by a random token (BERT: 0.1)")
    kept_fraction: float = Field(default=0.0, ge=0, le=1, description="share left as it is but scored (BERT: 0.1)")

    @field_validator("strategy", mode="before")
    @classmethod
    def _strategy_with_defaults(cls, value: Any) -> Any:
        """Take a bare name too, check the options and fill in their defaults."""
        raw = {"name": value} if isinstance(value, str) else value
        if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
            raise ValueError(f"is {value!r:.60}, it must be a name such as span, or a mapping with a name and options")
        try:
            _, options = strategy_of(raw)
        except RecipeError as error:
            raise ValueError(f"{error.got} ({error.expected})") from error
        except ValidationError as error:
            config = load_plug_in(STRATEGIES, raw["name"], Strategy).Config
            raise ValueError(
                "; ".join(problem_in_words(config, item, raw["name"]) for item in error.errors())
            ) from error
        return {"name": raw["name"], **options.model_dump()}

    @model_validator(mode="after")
    def _fractions_are_a_whole(self) -> Self:
        total = self.mask_fraction + self.random_fraction + self.kept_fraction
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(f"mask_fraction + random_fraction + kept_fraction is {total:g}, it must be 1")
        return self

    @property
    def needs_phase_before(self) -> bool:
        """See `ObjectiveConfig`."""
        return False

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


def strategy_of(raw: dict[str, Any]) -> tuple[type[Strategy], StrategyConfig]:
    """Return the strategy that a mapping names, and its options.

    Raises:
        RecipeError: there is none of that name.
        ValidationError: an option is not one of its own, or out of range.
    """
    plug_in = load_plug_in(STRATEGIES, raw["name"], Strategy)
    return plug_in, plug_in.Config.model_validate({key: value for key, value in raw.items() if key != "name"})


def num_masks(options: MaskingOptions, row_length: int, rate: float, text_share: float = 1.0) -> int:
    """Return how many masks a mean row has.

    Args:
        options: give the share of masks among what is scored.
        row_length: tokens in a row.
        rate: share of the text that is scored.
        text_share: tokens of text in the mean row, as a share of what one sequence as long as the row would hold.
    """
    return round(rate * options.mask_fraction * text_share * (row_length - NUM_SPECIALS))


def require_masks_and_text(options: MaskingOptions, row_length: int) -> None:
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


def require_nothing_to_learn(options: MaskingOptions) -> None:
    """Refuse a strategy that learns from predictions, for an objective that shows it none.

    Raises:
        RecipeError: it is one.
    """
    plug_in, _ = strategy_of(options.strategy)
    if plug_in.learns:
        raise RecipeError(
            f"strategy: {options.strategy['name']} learns from predictions of hidden tokens, and this objective shows "
            "it none",
            "an objective that does, such as mlm",
            "take another strategy for this phase",
        )


def make_strategy(options: MaskingOptions, vocabulary: Vocabulary, *, is_taught: bool) -> Strategy:
    """Return the strategy that the options name.

    Args:
        options: validated.
        vocabulary: of the tokenizer.
        is_taught: whether the objective calls the strategy's `taught_cross_entropy` and `after_step`.

    Raises:
        RecipeError: the strategy wants words and the tokenizer has none, or predictions and the objective shows none.
    """
    plug_in, config = strategy_of(options.strategy)
    if not is_taught:
        require_nothing_to_learn(options)
    name = options.strategy["name"]
    if plug_in.needs_words and not vocabulary.has_words:
        raise RecipeError(
            f"strategy: {name} hides whole words, and this tokenizer does not say where words begin",
            "a tokenizer that splits text into words first",
            "take strategy: token, or train a tokenizer (leave tokenizer.existing out)",
        )
    return plug_in(config, vocabulary)


class Masking(nn.Module):
    """Selects tokens and replaces them, on the host; pure.

    Attributes:
        strategy: which tokens. The objective passes its own `begin` on to it, and its `after_step` where it is taught.
    """

    def __init__(self, options: MaskingOptions, vocabulary: Vocabulary, *, is_taught: bool = False) -> None:
        """Make the strategy; see `make_strategy`."""
        super().__init__()
        self._options = options
        self.strategy = make_strategy(options, vocabulary, is_taught=is_taught)
        self._replacement = Replacement(options.mask_fraction, options.random_fraction, vocabulary)

    def forward(self, batch: PackedBatch, is_text_T: Tensor, generator: torch.Generator, progress: float) -> Masked:
        """Select `rate` of the text tokens and replace them.

        Args:
            batch: clean tokens; not changed.
            is_text_T: bool [T], the tokens that may be selected.
            generator: on the CPU.
            progress: of the phase, in [0, 1].
        """
        rate = rate_at(self._options.rate, progress)
        units = self.strategy.units(batch, is_text_T, generator, progress)
        budget = max(1, round(rate * int(is_text_T.sum())))
        positions = select_positions(is_text_T, units.starts_T, budget, generator, units.weights_T)
        input_ids_T = batch.token_ids_T.clone()
        input_ids_T[positions] = self._replacement(batch.token_ids_T[positions], generator)
        return Masked(input_ids_T, positions, math.ceil(rate * len(input_ids_T)))
