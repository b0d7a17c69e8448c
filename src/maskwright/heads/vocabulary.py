"""The vocabulary head: hidden states at scored positions to logits over the vocabulary.

Source: Devlin et al. 2018, arXiv:1810.04805, as released: a dense layer with activation and norm before the decoder,
    whose matrix is the token embedding.
"""

from torch import Tensor

from maskwright.core.batches import SlotLosses
from maskwright.core.randomness import torch_generator
from maskwright.encoders.config import EncoderConfig
from maskwright.heads.decoder import Decoder
from maskwright.heads.token_head import TokenHead
from maskwright.heads.transform import Transform


class VocabularyHead(TokenHead):
    """A transform from the hidden size to the embedding's width, and a decoder that is tied to the token embedding."""

    def __init__(self, config: EncoderConfig, seed: int = 0) -> None:
        """Make the head with weights that are a function of `seed`.

        Args:
            config: of the encoder below.
            seed: of the run.
        """
        super().__init__()
        # The decoder first: the norm of the gradients is summed in this order, and its last bits depend on it.
        self.decoder = Decoder(config)
        self.transform = Transform(config, config.embedding_width)
        self.to_empty(device="cpu")
        self.transform.initialize(torch_generator(seed, "vocabulary_head"))
        self.decoder.initialize()

    def forward(self, x_MD: Tensor, embedding_VE: Tensor) -> Tensor:
        """See `TokenHead`."""
        return self.decoder(self.transform(x_MD), embedding_VE)

    def cross_entropy(self, x_MD: Tensor, target_ids_M: Tensor, embedding_VE: Tensor) -> Tensor:
        """See `TokenHead`; large logits are never there as a whole."""
        return self.decoder.cross_entropy(self.transform(x_MD), target_ids_M, embedding_VE)

    def slot_losses(self, x_MD: Tensor, target_ids_MK: Tensor, weights_MK: Tensor, embedding_VE: Tensor) -> SlotLosses:
        """See `TokenHead`; large logits are never there as a whole."""
        return self.decoder.slot_losses(self.transform(x_MD), target_ids_MK, weights_MK, embedding_VE)
