"""Masked language modelling: predict the tokens that were hidden, from both sides.

Source: Devlin et al. 2018, arXiv:1810.04805; new masks at every sight and full sentences from Liu et al. 2019,
    arXiv:1907.11692; rates above 15 % and [MASK] alone from Wettig et al. 2022, arXiv:2202.08005.
Departures: the share of scored tokens is exact in every micro-batch instead of drawn per token or rounded per
    sequence; random replacements are never special tokens; always-[MASK] at 30 % is the default.
"""

import math
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator

from maskwright.core.batches import UNUSED, CorruptedBatch, LossTerm, PackedBatch
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders.encoder import Encoder
from maskwright.heads.vocabulary import VocabularyHead
from maskwright.objectives.base import Objective, ObjectiveConfig, scored_batch
from maskwright.objectives.parts.positions import select_positions
from maskwright.objectives.parts.replacement import Replacement
from maskwright.objectives.parts.schedules import Rate, highest, rate_at


class Mlm(Objective):
    """Masked language modelling (BERT, RoBERTa): the plain and strong default, and the yardstick of the others."""

    citation = "Devlin et al. 2018, BERT: Pre-training of Deep Bidirectional Transformers, arXiv:1810.04805"

    class Config(ObjectiveConfig):
        """Options of `mlm`."""

        rate: Rate = Field(
            default=0.30,
            description="share of the text tokens that are scored, in (0, 1), or {start, end, shape} over the phase; "
            "0.30 as MosaicBERT and ModernBERT, 0.15 as BERT",
        )
        unit: Literal["token", "whole_word"] = Field(
            default="token", description="what is selected: single tokens, or words with all their tokens"
        )
        mask_fraction: float = Field(
            default=1.0, ge=0, le=1, description="share of the selected tokens replaced by [MASK]"
        )
        random_fraction: float = Field(
            default=0.0, ge=0, le=1, description="share replaced by a random token (BERT: 0.1)"
        )
        kept_fraction: float = Field(default=0.0, ge=0, le=1, description="share left as it is but scored (BERT: 0.1)")

        @model_validator(mode="after")
        def _fractions_are_a_whole(self) -> Self:
            total = self.mask_fraction + self.random_fraction + self.kept_fraction
            if not math.isclose(total, 1.0, abs_tol=1e-6):
                raise ValueError(f"mask_fraction + random_fraction + kept_fraction is {total:g}, it must be 1")
            return self

    def __init__(
        self, config: Config, encoder: Encoder, vocabulary: Vocabulary, vocabulary_head: VocabularyHead
    ) -> None:
        """See `Objective`."""
        super().__init__(config, encoder, vocabulary, vocabulary_head)
        self.config: Mlm.Config = config
        self._replacement = Replacement(config.mask_fraction, config.random_fraction, vocabulary)

    def scored_fraction(self) -> float:
        """The highest mask rate."""
        return highest(self.config.rate)

    def corrupt(self, batch: PackedBatch, generator: torch.Generator, progress: float) -> CorruptedBatch:
        """Select `rate` of the text tokens and replace them."""
        rate = rate_at(self.config.rate, progress)
        is_text_T = self.is_text(batch)
        unit_starts_T = batch.word_starts_T if self.config.unit == "whole_word" else torch.ones_like(is_text_T)
        budget = max(1, round(rate * int(is_text_T.sum())))
        positions = select_positions(is_text_T, unit_starts_T, budget, generator)
        input_ids_T = batch.token_ids_T.clone()
        input_ids_T[positions] = self._replacement(batch.token_ids_T[positions], generator)
        num_slots = math.ceil(rate * len(input_ids_T))
        return scored_batch(batch, input_ids_T, positions, num_slots, {"mlm": len(positions)})

    def loss(self, encoder: Encoder, batch: CorruptedBatch) -> tuple[LossTerm, ...]:
        """Cross-entropy at the selected positions; the head sees no others."""
        clean = batch.clean
        x_TD = encoder(batch.input_ids_T, clean.position_ids_T, clean.segment_ids_T, clean.layout)
        logits_MV = self.vocabulary_head(x_TD[batch.scored_positions_M], encoder.embedding_weight_VD)
        total = F.cross_entropy(logits_MV.float(), batch.target_ids_M, ignore_index=UNUSED, reduction="sum")
        return (LossTerm("mlm", total, batch.term_counts["mlm"]),)
