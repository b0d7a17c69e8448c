"""The base of objectives that hide tokens: a corruption from `masking/`, and terms that are asked about it."""

from typing import Any, ClassVar

import torch

from maskwright.core.batches import CorruptedBatch, LossTerm, PackedBatch, Question
from maskwright.core.errors import RecipeError
from maskwright.core.log import warn
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import Encoder
from maskwright.heads.token_head import TokenHead
from maskwright.masking.corruption import Corruption
from maskwright.masking.masking import Masking, MaskingOptions, require_masks_and_text
from maskwright.masking.phase_start import PhaseStart
from maskwright.masking.row_masking import RowMasking
from maskwright.objectives.base import Objective, ObjectiveConfig, TermsConfig


class MaskedConfig(MaskingOptions, TermsConfig):
    """Options of an objective that hides tokens and asks terms about them."""


class MaskedObjective(Objective):
    """Hides tokens that a strategy selects, and asks the terms about them: the base of masked language modelling.

    Attributes:
        masking: selects and replaces.
    """

    Config: ClassVar[type[ObjectiveConfig]] = MaskedConfig

    def __init__(
        self, config: MaskedConfig, encoder: Encoder, vocabulary: Vocabulary, vocabulary_head: TokenHead
    ) -> None:
        super().__init__(config, encoder, vocabulary, vocabulary_head)
        self.masking = self.make_masking()
        for name in self.terms:
            self.term(name).is_observed = self.masking.strategy.learns and self.term(name).shows_predictions

    def make_masking(self) -> Masking | RowMasking:
        """Return what selects and replaces tokens."""
        return Masking(self.config, self.vocabulary)

    @classmethod
    def require_fit(
        cls, options: Any, encoder_class: type[Encoder], encoder: EncoderConfig, sequence_length: int
    ) -> None:
        """See `Objective`: sequences have visible and masked tokens, and a strategy that learns sees predictions."""
        require_masks_and_text(options, sequence_length)
        shows_predictions = any(term.plug_in.shows_predictions for term in options.terms)
        if options.strategy.plug_in.learns and not shows_predictions:
            raise RecipeError(
                f"strategy: {options.strategy.name} learns from predictions of hidden tokens, and no term shows it any",
                "a term that does, such as token",
                "add it to terms, or take another strategy",
            )

    @property
    def needs_begin(self) -> bool:
        return super().needs_begin or self.masking.strategy.needs_begin

    def begin(self, encoder: Encoder, start: PhaseStart) -> None:
        """See `Objective`: the strategy and every term make ready."""
        if not self.trains_vocabulary_head:
            warn("no term trains the vocabulary head, so the model will not be able to fill masks")
        self.masking.strategy.begin(start)
        for name in self.terms:
            self.term(name).begin(encoder, self.vocabulary_head, start, self.hide)

    def after_step(self, encoder: Encoder, num_steps: int) -> None:
        """See `Objective`: the strategy learns from the step."""
        self.masking.strategy.after_step(num_steps)
        super().after_step(encoder, num_steps)

    def observe(self, question: Question, term: LossTerm) -> None:
        """Show the strategy how hidden tokens were predicted."""
        if self.masking.strategy.learns and term.slots is not None:
            self.masking.strategy.observe(question.targets, term.slots.is_correct_M)

    def scored_share(self) -> float:
        """See `Objective`: the highest mask rate."""
        return self.config.highest_rate

    def hide(self, packed: PackedBatch, generator: torch.Generator, progress: float) -> Corruption:
        """Select `rate` of the text tokens and replace them."""
        return self.masking(packed, self.is_text(packed), generator, progress)

    def corrupt(self, packed: PackedBatch, generator: torch.Generator, progress: float) -> CorruptedBatch:
        """See `Objective`: hide tokens, and ask the terms about them."""
        return self.asked(packed, self.hide(packed, generator, progress), generator, progress)
