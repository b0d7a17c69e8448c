"""The part of a head that comes before its decoder: a dense layer with activation and norm.

Source: Devlin et al. 2018, arXiv:1810.04805, as released.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import layer_norm, truncated_normal_


class Transform(nn.Module):
    """Dense layer, GELU, norm: from the hidden size to the width of a decoder.

    Which parts have a bias is the family's: `head_bias` and `norm_bias` of its configuration.
    """

    def __init__(self, config: EncoderConfig, width: int) -> None:
        """Make the layers without storage; the head that they belong to gives them weights.

        Args:
            config: of the encoder below.
            width: of the decoder above.
        """
        super().__init__()
        self._standard_deviation = config.head_initializer_range
        with torch.device("meta"):
            self.dense = nn.Linear(config.hidden_size, width, bias=config.head_bias)
            self.norm = layer_norm(config, width)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw the matrix from a truncated normal distribution; biases are zero."""
        for parameter in self.parameters():
            parameter.zero_()
        self.norm.weight.fill_(1.0)
        truncated_normal_(self.dense.weight, self._standard_deviation, generator)

    def forward(self, x_MD: Tensor) -> Tensor:
        """Return what the decoder is given, float [M, E], of hidden states [M, D]."""
        return self.norm(F.gelu(self.dense(x_MD)))
