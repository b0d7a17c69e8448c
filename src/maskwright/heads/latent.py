"""The latent head: hidden states at scored positions to logits over the atoms of a dictionary.

Source: Berend 2023, 2023.findings-acl.876.
Departures: a transform and a decoder of its own, where the reference appends the atoms to the vocabulary's matrix; so
    it works with any vocabulary head, and an exported vocabulary holds only real tokens.
"""

import torch
from torch import Tensor, nn

from maskwright.core.batches import SlotLosses
from maskwright.core.randomness import torch_generator
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import truncated_normal_
from maskwright.heads.cross_entropy import chunked_cross_entropy, is_small, losses_of_logits
from maskwright.heads.transform import Transform


class LatentHead(nn.Module):
    """Dense layer, GELU, norm, and a decoder with one row for each atom."""

    def __init__(self, config: EncoderConfig, num_atoms: int) -> None:
        """Make the head.

        Args:
            config: of the encoder below.
            num_atoms: A.
        """
        super().__init__()
        self.num_atoms = num_atoms
        self._standard_deviation = config.head_initializer_range
        self.transform = Transform(config, config.hidden_size)
        with torch.device("meta"):
            self.decoder = nn.Linear(config.hidden_size, num_atoms)
        self.to_empty(device="cpu")
        self.initialize(torch_generator(0, "latent_head"))

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Initialize all weights: matrices from a truncated normal distribution, biases zero, as vocabulary heads."""
        self.transform.initialize(generator)
        self.decoder.bias.zero_()
        truncated_normal_(self.decoder.weight, self._standard_deviation, generator)

    def forward(self, x_MD: Tensor) -> Tensor:
        """Return logits [M, A].

        Args:
            x_MD: float [M, D], hidden states at the scored positions only.
        """
        return self.decoder(self.transform(x_MD))

    def slot_losses(self, x_MD: Tensor, atom_ids_MW: Tensor, weights_MW: Tensor) -> SlotLosses:
        """Return the cross-entropy with several weighted atoms a slot; large logits are never there as a whole.

        Args:
            x_MD: float [M, D].
            atom_ids_MW: int64 [M, W].
            weights_MW: float [M, W], at least 0; all 0 in slots that are not in use.
        """
        if is_small(len(x_MD), self.decoder.out_features, x_MD.device.type):
            return losses_of_logits(self(x_MD).float(), atom_ids_MW, weights_MW)
        x_MD = self.transform(x_MD)
        return chunked_cross_entropy(x_MD, self.decoder.weight, self.decoder.bias, atom_ids_MW, weights_MW)

    def flops_per_token(self, rate: float) -> float:
        """Return the FLOPs of a training step per token of a batch of which a share `rate` is scored."""
        width = self.decoder.in_features
        return 6 * rate * (width * width + width * self.num_atoms)
