"""A smaller encoder that learns beside the one that is exported, such as the generator of ELECTRA.

Source: Clark et al. 2020, ELECTRA, arXiv:2003.10555, section 3.2 (a generator of a quarter to a half of the size, and
    shared token embeddings).
"""

import torch
from torch import Tensor, nn

from maskwright.core.batches import EncoderInput
from maskwright.core.errors import RecipeError
from maskwright.encoders.build import empty_encoder
from maskwright.encoders.encoder import Encoder
from maskwright.heads.vocabulary import VocabularyHead


class Companion(nn.Module):
    """An encoder of the same family, scaled, that shares the token embedding of the main one, with a head of its own.

    It is a sub-module of an objective. The engine chooses its attention together with the main encoder's, and
    `learning_rate_factor` multiplies its learning rate.

    Attributes:
        encoder: scaled; its token embedding is that of the main encoder, which is handed in at each call.
        head: over the vocabulary.
        learning_rate_factor: relative to the main encoder (`optim/roles.py`).
    """

    def __init__(
        self, encoder: Encoder, width: float = 0.25, depth: float = 1.0, learning_rate_factor: float = 1.0
    ) -> None:
        """Make the modules; `initialize` draws their weights.

        Args:
            encoder: the main one, of a family of ours; only its configuration is used.
            width: of hidden states and feed-forward layers, as a share of the main encoder's.
            depth: number of blocks, likewise.
            learning_rate_factor: of everything in it.

        Raises:
            RecipeError: the main encoder is a class of transformers.
        """
        super().__init__()
        if encoder.is_foreign:
            raise RecipeError(
                f"{type(encoder).__name__} can't be scaled", "an encoder of one of our own families, which can"
            )
        self.learning_rate_factor = learning_rate_factor
        config = encoder.config.scaled(width, depth)
        self.encoder = empty_encoder(type(encoder), config)
        del self.encoder.token_embedding
        self.encoder.to_empty(device="cpu")
        self.head = VocabularyHead(config)

    def initialize(self, generator: torch.Generator) -> None:
        """Draw all weights, as the family does."""
        with torch.no_grad():
            self.encoder.initialize(generator)
        self.head.transform.initialize(generator)
        self.head.decoder.initialize()

    def forward(self, input: EncoderInput, embedding_VE: Tensor, positions_M: Tensor | None = None) -> Tensor:
        """Return hidden states, float [T, D] of the smaller width, or [M, D] at some positions.

        Args:
            input: the tokens and their layout.
            embedding_VE: float [V, E], the main encoder's token embedding; it learns from both.
            positions_M: see `Encoder.forward`.
        """
        x_TD = self.encoder.embed(input, embedding_VE)
        return self.encoder.final_norm(self.encoder.run_blocks(x_TD, input.layout, positions_M=positions_M))
