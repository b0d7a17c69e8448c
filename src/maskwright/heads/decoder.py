"""The part of a head that comes after its transform: logits over the vocabulary by the token embedding, and their loss.

Source: Press & Wolf 2017, arXiv:1608.05859 (the embedding as the decoder's matrix); Devlin et al. 2018 (the bias).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.core.batches import UNUSED, SlotLosses
from maskwright.encoders.config import EncoderConfig
from maskwright.heads.cross_entropy import (
    Way,
    as_slots,
    chunked_cross_entropy,
    is_small,
    losses_of_logits,
    torchs_cross_entropy,
)


class Decoder(nn.Module):
    """Logits of states that were transformed; terms with a transform of their own may share it (`ModelHeads.decoder`).

    Large logits are never there as a whole.
    """

    def __init__(self, config: EncoderConfig) -> None:
        """Make the bias, if the family has one, without storage."""
        super().__init__()
        self._way: Way = "own"
        with torch.device("meta"):
            self.bias = nn.Parameter(torch.empty(config.vocabulary_size)) if config.decoder_bias else None

    @torch.no_grad()
    def initialize(self) -> None:
        """Set the bias to zero."""
        if self.bias is not None:
            self.bias.zero_()

    def use_cross_entropy(self, way: Way) -> None:
        """Choose how the cross-entropy of large logits is made; small ones are always there as a whole."""
        self._way = way

    def forward(self, y_ME: Tensor, embedding_VE: Tensor) -> Tensor:
        """Return logits [M, V].

        Args:
            y_ME: float [M, E], transformed states at the scored positions only.
            embedding_VE: float [V, E], the encoder's token embedding.
        """
        return F.linear(y_ME, embedding_VE, self.bias)

    def cross_entropy(self, y_ME: Tensor, target_ids_M: Tensor, embedding_VE: Tensor) -> Tensor:
        """Return the sum of the slots' cross-entropies in nats, a scalar; `UNUSED` slots count for nothing."""
        if is_small(len(y_ME), len(embedding_VE)):
            logits_MV = self(y_ME, embedding_VE)
            full = torch.promote_types(logits_MV.dtype, torch.float32)
            return F.cross_entropy(logits_MV.to(full), target_ids_M, ignore_index=UNUSED, reduction="sum")
        # torch's own function (of torch 2.13) can't be compiled, and under autocast it sums in half precision.
        is_plain = not (torch.compiler.is_compiling() or torch.is_autocast_enabled(y_ME.device.type))
        if self._way == "torch" and is_plain:
            return torchs_cross_entropy(y_ME, embedding_VE, self.bias, target_ids_M)
        return self.slot_losses(y_ME, *as_slots(target_ids_M), embedding_VE).total

    def slot_losses(self, y_ME: Tensor, target_ids_MK: Tensor, weights_MK: Tensor, embedding_VE: Tensor) -> SlotLosses:
        """Return the cross-entropy with several weighted targets a slot; see `TokenHead.slot_losses`."""
        if is_small(len(y_ME), len(embedding_VE)):
            logits_MV = self(y_ME, embedding_VE)
            full = torch.promote_types(logits_MV.dtype, torch.float32)
            return losses_of_logits(logits_MV.to(full), target_ids_MK, weights_MK)
        return chunked_cross_entropy(y_ME, embedding_VE, self.bias, target_ids_MK, weights_MK)
