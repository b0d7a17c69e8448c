"""The decoder of late masks: [MASK] joins the hidden states of the other tokens after some blocks of the encoder.

Source: Liao et al. 2022, Mask More and Mask Later, arXiv:2211.04898: decoders of self- and of cross-attention, masks
    that enter within the stack, [MASK] apart from the word embeddings.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from maskwright.core.batches import EncoderInput, Movable, SequenceLayout
from maskwright.encoders.build import more_blocks
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import Encoder, truncated_normal_
from maskwright.encoders.token_dropping import DroppedTokens, fill_gaps


@dataclass(frozen=True)
class LateMaskOptions:
    """How masks come in.

    Attributes:
        entrance: number of the encoder's blocks that run before the masks come in.
        num_layers: blocks of the decoder after the encoder's own.
        decoder: self: all tokens see each other in the late blocks; cross: masks see the visible tokens, which stay as
            the encoder left them.
        mask_vector: what stands for [MASK]: a vector of its own, or its row of the token embedding.
    """

    entrance: int
    num_layers: int
    decoder: Literal["self", "cross"]
    mask_vector: Literal["own", "embedding"]


@dataclass(frozen=True)
class LateInput(Movable):
    """What encoder and decoder read.

    Attributes:
        input: the whole batch, masks included.
        dropped: which tokens the early blocks read.
        late_layout: who sees whom after the masks have come in.
    """

    input: EncoderInput
    dropped: DroppedTokens
    late_layout: SequenceLayout


class LateDecoder(nn.Module):
    """The vector that stands for [MASK], and the blocks that the masks pass through."""

    def __init__(self, encoder: Encoder, options: LateMaskOptions, mask_id: int) -> None:
        """Make the module; `initialize` makes its blocks.

        Args:
            encoder: only its class and configuration are used.
            options: how masks come in.
            mask_id: of the vocabulary.
        """
        super().__init__()
        self.options = options
        self._encoder_class, self._encoder_config = type(encoder), encoder.config
        self._mask_id = mask_id
        self.mask_vector = None
        if options.mask_vector == "own":
            self.mask_vector = nn.Parameter(torch.empty(encoder.config.embedding_width))

    def initialize(self, generator: torch.Generator) -> None:
        """Draw the blocks as those of a deeper encoder of the family, and the mask's vector as a token's."""
        config: EncoderConfig = self._encoder_config
        self.extra_blocks = more_blocks(self._encoder_class, config, self.options.num_layers, generator)
        if self.mask_vector is not None:
            with torch.no_grad():
                truncated_normal_(self.mask_vector, config.initializer_range, generator)

    def read(self, encoder: Encoder, late: LateInput, positions_M: Tensor) -> Tensor:
        """Return hidden states of a batch whose masks the early blocks leave out, float [M, D].

        Args:
            encoder: the encoder below.
            late: the batch.
            positions_M: int64 [M], where hidden states are wanted, in the whole batch.
        """
        dropped, layout, entrance = late.dropped, late.input.layout, self.options.entrance
        visible = EncoderInput(late.input.token_ids_T[dropped.kept_N], dropped.layout)
        x_ND = encoder.run_blocks(encoder.embed(visible), dropped.layout, stop=entrance)
        gaps_K = dropped.gaps_K
        masks_KD = self.embed_masks(encoder, layout.position_ids_T[gaps_K], layout.segment_ids_T[gaps_K])
        if self.options.decoder == "self":
            x_TD = fill_gaps(x_ND, masks_KD, dropped)
            x_MD = encoder.run_blocks(
                x_TD, late.late_layout, start=entrance, positions_M=positions_M, extra=self.extra_blocks
            )
            return encoder.final_norm(x_MD)
        # Only the masks change from block to block.
        for index in range(entrance, entrance + len(self.extra_blocks)):
            masks_KD = encoder.run_blocks(
                fill_gaps(x_ND, masks_KD, dropped),
                late.late_layout,
                start=index,
                stop=index + 1,
                positions_M=gaps_K,
                extra=self.extra_blocks,
            )
        return encoder.final_norm(fill_gaps(x_ND, masks_KD, dropped)[positions_M])

    def embed_masks(self, encoder: Encoder, position_ids_K: Tensor, segment_ids_K: Tensor) -> Tensor:
        """Return what stands for masks at some positions as the family embeds it, float [K, D]."""
        vector_D = self.mask_vector
        if vector_D is None:
            vector_D = encoder.embedding_weight_VE[self._mask_id]
        return encoder.embed_vectors(vector_D.expand(len(position_ids_K), -1), position_ids_K, segment_ids_K)

    def is_mask(self, token_ids_T: Tensor) -> Tensor:
        """Return which tokens are masks, bool [T]."""
        return token_ids_T == self._mask_id


class LateReader(nn.Module):
    """Reads masked text as a late decoder does in training, whatever the number of masks in a row.

    Nothing is left out: masks are there all the time, but nobody sees them until they come in, which gives the same
    states (`tests/unit/objectives/test_late_mask.py`).
    """

    def __init__(self, encoder: Encoder, decoder: LateDecoder) -> None:
        """Join the two; neither is copied."""
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, input: EncoderInput, positions_M: Tensor | None = None) -> Tensor:
        """Return the states from which masked tokens are predicted, float [M, D]; see `Encoder.forward`."""
        encoder, decoder, layout = self.encoder, self.decoder, input.layout
        entrance, blocks = decoder.options.entrance, decoder.extra_blocks
        is_mask_T1 = decoder.is_mask(input.token_ids_T)[:, None]
        hidden = replace(layout, is_visible_T=~is_mask_T1[:, 0])
        x_TD = encoder.run_blocks(encoder.embed(input), hidden, stop=entrance)
        masks_TD = decoder.embed_masks(encoder, layout.position_ids_T, layout.segment_ids_T).to(x_TD.dtype)
        x_TD = torch.where(is_mask_T1, masks_TD, x_TD)
        if decoder.options.decoder == "self":
            late_TD = encoder.run_blocks(x_TD, layout, start=entrance, positions_M=positions_M, extra=blocks)
            return encoder.final_norm(late_TD)
        for index in range(entrance, entrance + len(blocks)):
            late_TD = encoder.run_blocks(x_TD, hidden, start=index, stop=index + 1, extra=blocks)
            x_TD = torch.where(is_mask_T1, late_TD, x_TD)
        return encoder.final_norm(x_TD if positions_M is None else x_TD[positions_M])
