"""The token at each position: cross-entropy over the vocabulary.

Source: Devlin et al. 2018, arXiv:1810.04805, section 3.1, task 1.
Departures: none. Targets may be soft, as label smoothing makes them.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from maskwright.core.batches import UNUSED, LossTerm, Movable, Question
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.flops import head_flops_per_token
from maskwright.heads.cross_entropy import as_slots, losses_of_logits
from maskwright.heads.model_heads import ModelHeads
from maskwright.objectives.terms.base import Term


@dataclass(frozen=True)
class SoftTargets(Movable):
    """Several weighted target tokens a slot.

    Attributes:
        token_ids_MK: int64 [M, K], the right token first.
        weights_MK: float [M, K], at least 0; all 0 in unused slots.
    """

    token_ids_MK: Tensor
    weights_MK: Tensor


class Token(Term):
    """Predicts tokens with the model's vocabulary head."""

    citation = "Devlin et al. 2018, BERT: Pre-training of Deep Bidirectional Transformers, arXiv:1810.04805"
    trains_vocabulary_head = True
    shows_predictions = True

    def loss(self, x_MD: Tensor, question: Question, heads: ModelHeads) -> LossTerm:
        """See `Term`; large logits are never in memory as a whole."""
        targets = question.targets
        if heads.has_logits(x_MD) and not isinstance(targets, SoftTargets):
            slots = losses_of_logits(heads.logits(x_MD), *as_slots(targets)) if self.is_observed else None
            total = F.cross_entropy(heads.logits(x_MD), targets, ignore_index=UNUSED, reduction="sum")
            return self.answer(question, total, slots)
        if isinstance(targets, SoftTargets):
            slots = heads.vocabulary.slot_losses(x_MD, targets.token_ids_MK, targets.weights_MK, heads.embedding_VE)
        elif self.is_observed:
            slots = heads.vocabulary.slot_losses(x_MD, *as_slots(targets), heads.embedding_VE)
        else:
            return self.answer(question, heads.vocabulary.cross_entropy(x_MD, targets, heads.embedding_VE))
        return self.answer(question, slots.total, slots)

    def logits_per_slot(self) -> int:
        return self.vocabulary.size

    def flops_per_token(self, config: EncoderConfig, sequence_length: int, rate: float) -> float:
        """See `Term`: the vocabulary head at the selected positions."""
        return rate * head_flops_per_token(config)
