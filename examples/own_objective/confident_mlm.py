"""Your own objective: masked language modelling that punishes over-confident predictions.

Source: Pereyra et al. 2017, Regularizing Neural Networks by Penalizing Confident Output Distributions,
    arXiv:1701.06548.
"""

from typing import Any

import torch
from pydantic import Field

from maskwright.core.batches import UNUSED, CorruptedBatch, LossTerm, PackedBatch
from maskwright.encoders.encoder import Encoder
from maskwright.objectives.mlm import Mlm


class ConfidentMlm(Mlm):
    """MLM with a second term, the negative entropy of the prediction."""

    citation = "Pereyra et al. 2017, Penalizing Confident Output Distributions, arXiv:1701.06548"

    class Config(Mlm.Config):
        """Options of `mlm`, and one more."""

        entropy_weight: float = Field(
            default=0.1, ge=0, description="weight of the negative entropy (the paper's beta)"
        )

    def corrupt(self, batch: PackedBatch, generator: torch.Generator, progress: float) -> CorruptedBatch:
        """As `mlm`; the second term counts the same positions."""
        corrupted = super().corrupt(batch, generator, progress)
        counts: Any = corrupted.term_counts
        counts["negative_entropy"] = counts["mlm"]
        return corrupted

    def loss(self, encoder: Encoder, batch: CorruptedBatch) -> tuple[LossTerm, ...]:
        """Return cross-entropy and negative entropy."""
        x_TD = encoder(batch.input)
        logits_MV = self.vocabulary_head(x_TD[batch.scored_positions_M], encoder.embedding_weight_VD)
        log_p_MV = logits_MV.float().log_softmax(-1)
        is_used_M = batch.target_ids_M != UNUSED
        targets_M = batch.target_ids_M.clamp(min=0)
        nats_M = -log_p_MV.gather(1, targets_M[:, None]).squeeze(1)
        entropy_M = -(log_p_MV.exp() * log_p_MV).sum(1)
        counts = batch.term_counts
        return (
            LossTerm("mlm", (nats_M * is_used_M).sum(), counts["mlm"]),
            LossTerm(
                "negative_entropy",
                (-entropy_M * is_used_M).sum(),
                counts["negative_entropy"],
                weight=self.config.entropy_weight,
            ),
        )
