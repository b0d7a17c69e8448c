"""The vocabulary head: hidden states at scored positions to logits over the vocabulary.

Source: Devlin et al. 2018, arXiv:1810.04805, as released: a dense layer with activation and norm before the decoder,
    whose matrix is the token embedding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.core.randomness import torch_generator
from maskwright.encoders.encoder import EncoderConfig, layer_norm, truncated_normal_


class VocabularyHead(nn.Module):
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
        x_MD = self.norm(F.gelu(self.dense(x_MD)))
        return F.linear(x_MD, embedding_VD, self.decoder_bias)
