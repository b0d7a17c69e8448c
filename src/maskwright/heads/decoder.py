"""The part of a head that comes after its transform: logits over the vocabulary by the token embedding, and their loss.

Source: Press & Wolf 2017, arXiv:1608.05859 (the embedding as the decoder's matrix); Devlin et al. 2018 (the bias).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.core.batches import SlotLosses
from maskwright.encoders.config import EncoderConfig
from maskwright.heads.cross_entropy import (
    Way,
    as_slots,
    chunked_cross_entropy,
    is_small,
    torchs_cross_entropy,
)
from maskwright.heads.token_head import TokenHead


class Decoder(TokenHead):
    """A token head of transformed states; terms with a transform of their own may share it (`ModelHeads.decoder`).

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

    def forward(self, x_MD: Tensor, embedding_VE: Tensor) -> Tensor:
        """Return logits [M, V].

        Args:
            x_MD: float [M, E], transformed states at the scored positions only.
            embedding_VE: float [V, E], the encoder's token embedding.
        """
        return F.linear(x_MD, embedding_VE, self.bias)

    def cross_entropy(self, x_MD: Tensor, target_ids_M: Tensor, embedding_VE: Tensor) -> Tensor:
        """Return the sum of the slots' cross-entropies in nats, a scalar; `UNUSED` slots count for nothing."""
        if is_small(len(x_MD), len(embedding_VE), x_MD.device.type):
            return super().cross_entropy(x_MD, target_ids_M, embedding_VE)
        # torch's own function (of torch 2.13) can't be compiled, and under autocast it sums in half precision.
        is_plain = not (torch.compiler.is_compiling() or torch.is_autocast_enabled(x_MD.device.type))
        if self._way == "torch" and is_plain:
            return torchs_cross_entropy(x_MD, embedding_VE, self.bias, target_ids_M)
        return self.slot_losses(x_MD, *as_slots(target_ids_M), embedding_VE).total

    def slot_losses(self, x_MD: Tensor, target_ids_MK: Tensor, weights_MK: Tensor, embedding_VE: Tensor) -> SlotLosses:
        """Return the cross-entropy with several weighted targets a slot; see `TokenHead.slot_losses`."""
        if is_small(len(x_MD), len(embedding_VE), x_MD.device.type):
            return super().slot_losses(x_MD, target_ids_MK, weights_MK, embedding_VE)
        return chunked_cross_entropy(x_MD, embedding_VE, self.bias, target_ids_MK, weights_MK)
