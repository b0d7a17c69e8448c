"""The vocabulary head: hidden states at scored positions to logits over the vocabulary.

Source: Devlin et al. 2018, arXiv:1810.04805, as released: a dense layer with activation and norm before the decoder,
    whose matrix is the token embedding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.core.batches import SlotLosses
from maskwright.core.randomness import torch_generator
from maskwright.encoders.encoder import EncoderConfig, layer_norm, truncated_normal_
from maskwright.heads.cross_entropy import (
    Way,
    as_slots,
    chunked_cross_entropy,
    is_small,
    torchs_cross_entropy,
)
from maskwright.heads.token_head import TokenHead


class VocabularyHead(TokenHead):
    """Dense layer, GELU, norm, and the decoder that is tied to the token embedding.

    Which parts have a bias is the family's: `head_bias`, `norm_bias` and `decoder_bias` of its configuration.
    """

    def __init__(self, config: EncoderConfig, seed: int = 0) -> None:
        """Make the head with weights that are a function of `seed`.

        Args:
            config: of the encoder below.
            seed: of the run.
        """
        super().__init__()
        self._way: Way = "own"
        width = config.hidden_size
        with torch.device("meta"):
            self.dense = nn.Linear(width, width, bias=config.head_bias)
            self.norm = layer_norm(config)
            self.decoder_bias = nn.Parameter(torch.empty(config.vocabulary_size)) if config.decoder_bias else None
        self.to_empty(device="cpu")
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.norm.weight.fill_(1.0)
            truncated_normal_(
                self.dense.weight, config.head_initializer_range, torch_generator(seed, "vocabulary_head")
            )

    def forward(self, x_MD: Tensor, embedding_VD: Tensor) -> Tensor:
        """Return logits [M, V].

        Args:
            x_MD: float [M, D], hidden states at the scored positions only.
            embedding_VD: float [V, D], the encoder's token embedding.
        """
        return F.linear(self._transformed(x_MD), embedding_VD, self.decoder_bias)

    def use_cross_entropy(self, way: Way) -> None:
        """Choose how the cross-entropy of large logits is made; small ones are always there as a whole."""
        self._way = way

    def cross_entropy(self, x_MD: Tensor, target_ids_M: Tensor, embedding_VD: Tensor) -> Tensor:
        """See `TokenHead`; large logits are never there as a whole."""
        if is_small(len(x_MD), len(embedding_VD)):
            return super().cross_entropy(x_MD, target_ids_M, embedding_VD)
        # torch's own function (of torch 2.13) can't be compiled, and under autocast it sums in half precision.
        is_plain = not (torch.compiler.is_compiling() or torch.is_autocast_enabled(x_MD.device.type))
        if self._way == "torch" and is_plain:
            return torchs_cross_entropy(self._transformed(x_MD), embedding_VD, self.decoder_bias, target_ids_M)
        return self.slot_losses(x_MD, *as_slots(target_ids_M), embedding_VD).total

    def slot_losses(self, x_MD: Tensor, target_ids_MK: Tensor, weights_MK: Tensor, embedding_VD: Tensor) -> SlotLosses:
        """See `TokenHead`; large logits are never there as a whole."""
        if is_small(len(x_MD), len(embedding_VD)):
            return super().slot_losses(x_MD, target_ids_MK, weights_MK, embedding_VD)
        x_MD = self._transformed(x_MD)
        return chunked_cross_entropy(x_MD, embedding_VD, self.decoder_bias, target_ids_MK, weights_MK)

    def _transformed(self, x_MD: Tensor) -> Tensor:
        """Return what the decoder is given: [M, D]."""
        return self.norm(F.gelu(self.dense(x_MD)))
