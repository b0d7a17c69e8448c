"""Masked language modelling: predict the tokens that were hidden, from both sides.

Source: Devlin et al. 2018, arXiv:1810.04805; new masks at every sight and full sentences from Liu et al. 2019,
    arXiv:1907.11692; rates above 15 % and [MASK] alone from Wettig et al. 2022, arXiv:2202.08005.
Departures: the share of scored tokens is exact in every micro-batch instead of drawn per token or rounded per
    sequence; random replacements are never special tokens; always-[MASK] at 30 % is the default.
"""

import torch

from maskwright.core.batches import CorruptedBatch, LossTerm, PackedBatch
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders.encoder import Encoder, EncoderConfig
from maskwright.heads.token_head import TokenHead
from maskwright.masking.masking import Masking, MaskingOptions, require_masks_and_text
from maskwright.masking.phase_start import PhaseStart
from maskwright.objectives.base import Objective, scored_batch, scored_states


class Mlm(Objective):
    """Masked language modelling (BERT, RoBERTa): the plain and strong default, and the yardstick of the others."""

    citation = "Devlin et al. 2018, BERT: Pre-training of Deep Bidirectional Transformers, arXiv:1810.04805"

    class Config(MaskingOptions):
        """Options of `mlm`."""

    def __init__(self, config: Config, encoder: Encoder, vocabulary: Vocabulary, vocabulary_head: TokenHead) -> None:
        """See `Objective`."""
        super().__init__(config, encoder, vocabulary, vocabulary_head)
        self.config: Mlm.Config = config
        self._masking = Masking(config, vocabulary, is_taught=True)
        self.needs_begin = self._masking.strategy.needs_begin

    @classmethod
    def require_fit(
        cls, options: Config, encoder_class: type[Encoder], encoder: EncoderConfig, sequence_length: int
    ) -> None:
        """See `Objective`: sequences have visible and masked tokens."""
        require_masks_and_text(options, sequence_length)

    def scored_fraction(self) -> float:
        """The highest mask rate."""
        return self.config.highest_rate

    def begin(self, encoder: Encoder, start: PhaseStart) -> None:
        """Let the strategy make ready."""
        self._masking.strategy.begin(start)

    def after_step(self, encoder: Encoder, num_steps: int) -> None:
        """Let the strategy learn from the step."""
        self._masking.strategy.after_step(num_steps)

    def corrupt(self, batch: PackedBatch, generator: torch.Generator, progress: float) -> CorruptedBatch:
        """Select `rate` of the text tokens and replace them."""
        masked = self._masking(batch, self.is_text(batch), generator, progress)
        counts = {"mlm": len(masked.positions)}
        return scored_batch(batch, masked.input_ids_T, masked.positions, masked.num_slots, counts)

    def loss(self, encoder: Encoder, batch: CorruptedBatch) -> tuple[LossTerm, ...]:
        """Cross-entropy at the selected positions; neither the head nor the end of the last block sees others."""
        x_MD = scored_states(encoder, batch)
        total = self._masking.strategy.taught_cross_entropy(
            self.vocabulary_head, x_MD, batch.target_ids_M, encoder.embedding_weight_VD
        )
        return (LossTerm("mlm", total, batch.term_counts["mlm"]),)
