"""What every head that predicts tokens can be asked: logits, and the cross-entropy of scored slots."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.core.batches import UNUSED, SlotLosses
from maskwright.heads.cross_entropy import losses_of_logits

VOCABULARY = "vocabulary"
"""The kind of such heads, where heads are told apart by kind, as in an export."""


class TokenHead(nn.Module):
    """What gives hidden states logits over the vocabulary: called with x_MD and the token embedding, it returns them.

    A head that knows of nothing cheaper makes all logits at once.
    """

    def cross_entropy(self, x_MD: Tensor, target_ids_M: Tensor, embedding_VE: Tensor) -> Tensor:
        """Return the sum of the slots' cross-entropies in nats, a scalar.

        Args:
            x_MD: float [M, D], hidden states at the scored positions only.
            target_ids_M: int64 [M]; `UNUSED` slots count for nothing.
            embedding_VE: float [V, E], the encoder's token embedding.
        """
        logits_MV = self(x_MD, embedding_VE)
        full = torch.promote_types(logits_MV.dtype, torch.float32)
        return F.cross_entropy(logits_MV.to(full), target_ids_M, ignore_index=UNUSED, reduction="sum")

    def slot_losses(self, x_MD: Tensor, target_ids_MK: Tensor, weights_MK: Tensor, embedding_VE: Tensor) -> SlotLosses:
        """Return the cross-entropy with several weighted targets a slot, and how each slot fared.

        Args:
            x_MD: float [M, D].
            target_ids_MK: int64 [M, K].
            weights_MK: float [M, K], at least 0; all 0 in slots that are not in use.
            embedding_VE: float [V, E].
        """
        logits_MV = self(x_MD, embedding_VE)
        full = torch.promote_types(logits_MV.dtype, torch.float32)
        return losses_of_logits(logits_MV.to(full), target_ids_MK, weights_MK)
