"""DeBERTa: disentangled attention. Tokens score each other's content, and the distance between them, one by one.

Source: He et al. 2020, arXiv:2006.03654, in its first version: positions have projections of their own, and every
    distance up to `max_relative_positions` a vector. Every option is that of transformers' `DebertaForMaskedLM`, with
    which `tests/parity/test_transformers_parity.py` compares logits and gradients.
Departures: no dropout unless asked for. Predicts from the last hidden states, as transformers' class; the paper's
    enhanced mask decoder is not part of the encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from maskwright.core.batches import SequenceLayout
from maskwright.encoders.attention import Attention
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.disentangled_attention import Offsets, position_bias
from maskwright.encoders.encoder import (
    Block,
    Encoder,
    StackedLinear,
    embedding_projection,
    layer_norm,
    truncated_normal_,
)


class DebertaConfig(EncoderConfig):
    """Options of `deberta`; defaults are those of the published models, except that nothing is dropped."""

    norm_eps: float = Field(default=1e-7, gt=0, description="added to the variance in layer norms")
    num_segments: int = Field(default=0, ge=0, description="number of token types; 0: there are none")
    absolute_positions: bool = Field(
        default=False, description="whether learned absolute positions are added to the embedded tokens as well"
    )
    content_to_position: bool = Field(default=True, description="whether queries score the distance to a key")
    position_to_content: bool = Field(default=True, description="whether keys score the distance of a query")
    max_relative_positions: int = Field(
        default=0, ge=0, description="larger distances are treated alike; 0: max_positions"
    )
    hidden_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="dropout of embeddings, relative positions and each part's output"
    )

    @model_validator(mode="after")
    def _attention_is_disentangled(self) -> Self:
        if self.num_position_terms == 0:
            raise ValueError("content_to_position and position_to_content are both false; use the family bert")
        return self

    @property
    def num_position_terms(self) -> int:
        """How many of the two terms with positions there are."""
        return self.content_to_position + self.position_to_content

    @property
    def distance_limit(self) -> int:
        """Larger distances are treated alike."""
        return self.max_relative_positions or self.max_positions

    @property
    def num_relative_vectors(self) -> int:
        """Rows of the table of relative positions; half of them are for each direction."""
        return 2 * self.distance_limit

    def block_matrix_parameters(self) -> int:
        """See `EncoderConfig`; what projects positions is multiplied once a batch and not with every token."""
        return 4 * self.hidden_size**2 + 2 * self.hidden_size * self.feed_forward_size

    def attention_products(self) -> int:
        """See `EncoderConfig`: twice as many offsets as there are keys are scored, by each term."""
        return 2 + 2 * self.num_position_terms

    def relative_index(self, distance_W: Tensor) -> Tensor:
        """Return the row of the table of relative positions for each distance (query minus key), int64 [W]."""
        return (distance_W + self.distance_limit).clamp(0, self.num_relative_vectors - 1)


@dataclass(frozen=True)
class DebertaContext:
    """What the layers share of one forward pass.

    Attributes:
        attention: over the tokens of each sequence.
        offsets: how far apart the tokens of a row are.
        vectors_ND: the table of relative positions.
        index_W: its row for each offset.
    """

    attention: Attention
    offsets: Offsets
    vectors_ND: Tensor
    index_W: Tensor


class DebertaBlock(Block):
    """Disentangled attention and feed-forward, each added to its input, with a norm after the sum."""

    def __init__(self, config: DebertaConfig) -> None:
        """Make a block."""
        super().__init__()
        self.config = config
        width, inner = config.hidden_size, config.feed_forward_size
        self.make_projections(width)
        self.attention_out = nn.Linear(width, width)
        self.attention_norm = layer_norm(config)
        self.feed_forward_in = nn.Linear(width, inner)
        self.feed_forward_out = nn.Linear(inner, width)
        self.feed_forward_norm = layer_norm(config)

    def make_projections(self, width: int) -> None:
        """Make what projects tokens and relative positions; keys have no bias."""
        self.qkv = StackedLinear(width, 3 * width, 3, bias=False, num_turns=self.config.num_heads)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        if self.config.content_to_position:
            self.position_key = nn.Linear(width, width, bias=False)
        if self.config.position_to_content:
            self.position_query = nn.Linear(width, width)

    def project(self, x_TD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, float [T, H, K]; in the matrix those of one head lie together."""
        heads = (self.config.num_heads, -1)
        q_bias_HK, v_bias_HK = self.q_bias.unflatten(0, heads), self.v_bias.unflatten(0, heads)
        q_THK, k_THK, v_THK = self.qkv(x_TD).unflatten(-1, (self.config.num_heads, 3, -1)).unbind(2)
        return q_THK + q_bias_HK, k_THK, v_THK + v_bias_HK

    def project_positions(self, x_WD: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return keys and queries of relative positions, float [W, H, K]; None for a term that there isn't."""
        heads = (self.config.num_heads, -1)
        keys = self.position_key(x_WD).unflatten(-1, heads) if self.config.content_to_position else None
        queries = self.position_query(x_WD).unflatten(-1, heads) if self.config.position_to_content else None
        return keys, queries

    def attend(self, x_TD: Tensor, context: DebertaContext) -> Tensor:
        config = self.config
        q_THK, k_THK, v_THK = self.project(x_TD)
        x_WD = F.dropout(context.vectors_ND, config.hidden_dropout, self.training)[context.index_W]
        # All scores are divided by sqrt(K x number of terms); the backend divides those of the content by sqrt(K).
        share = (1 + config.num_position_terms) ** -0.5
        scale = share * config.head_size**-0.5
        bias = position_bias(context.offsets, q_THK, k_THK, *self.project_positions(x_WD), scale=scale)
        rate = config.attention_dropout if self.training else 0.0
        return context.attention.attend(q_THK * share, k_THK, v_THK, bias, rate).flatten(1)

    def finish(self, x_MD: Tensor, attended_MD: Tensor) -> Tensor:
        projected_MD = F.dropout(self.attention_out(attended_MD), self.config.hidden_dropout, self.training)
        x_MD = self.attention_norm(x_MD + projected_MD)
        return self.feed_forward_norm(x_MD + self._feed_forward(x_MD))

    def _feed_forward(self, x_TD: Tensor) -> Tensor:
        x_TD = self.feed_forward_out(F.gelu(self.feed_forward_in(x_TD)))
        return F.dropout(x_TD, self.config.hidden_dropout, self.training)


class Deberta(Encoder):
    """DeBERTa in its first version."""

    Config = DebertaConfig
    SIZES: ClassVar = {
        "tiny": {"num_layers": 5, "hidden_size": 128, "num_heads": 2, "feed_forward_size": 384},
        "mini": {"num_layers": 4, "hidden_size": 256, "num_heads": 4, "feed_forward_size": 1024},
        "small": {"num_layers": 4, "hidden_size": 512, "num_heads": 8, "feed_forward_size": 2048},
        "medium": {"num_layers": 8, "hidden_size": 512, "num_heads": 8, "feed_forward_size": 2048},
        "base": {"num_layers": 12, "hidden_size": 768, "num_heads": 12, "feed_forward_size": 3072},
        "large": {"num_layers": 24, "hidden_size": 1024, "num_heads": 16, "feed_forward_size": 4096},
    }
    citation = "He et al. 2020, DeBERTa: Decoding-enhanced BERT with Disentangled Attention, arXiv:2006.03654"
    exporter = "deberta"
    has_attention_bias = True
    block_class: ClassVar[type[DebertaBlock]] = DebertaBlock

    def __init__(self, config: DebertaConfig) -> None:
        """Make the modules; see `Encoder`."""
        super().__init__(config)
        self.config: DebertaConfig = config
        width = config.embedding_width
        self.token_embedding = nn.Embedding(config.vocabulary_size, width)
        if config.absolute_positions:
            self.position_embedding = nn.Embedding(config.max_positions, width)
        if config.num_segments:
            self.segment_embedding = nn.Embedding(config.num_segments, width)
        self.embedding_norm = layer_norm(config, width)
        self.project_embedding = embedding_projection(config)
        self.relative_embedding = nn.Embedding(config.num_relative_vectors, config.hidden_size)
        self.blocks = nn.ModuleList([self.block_class(config) for _ in range(config.num_layers)])

    def initialize(self, generator: torch.Generator) -> None:
        """Truncated normal for every matrix."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 1:
                nn.init.ones_(parameter)
            else:
                truncated_normal_(parameter, self.config.initializer_range, generator)

    def embed_vectors(self, x_TE: Tensor, position_ids_T: Tensor, segment_ids_T: Tensor) -> Tensor:
        """See `Encoder`; relative positions enter in the blocks."""
        if self.config.absolute_positions:
            x_TE = x_TE + self.position_embedding(position_ids_T)
        if self.config.num_segments:
            x_TE = x_TE + self.segment_embedding(segment_ids_T)
        x_TE = F.dropout(self.embedding_norm(x_TE), self.config.hidden_dropout, self.training)
        return self.project_embedding(x_TE)

    def relative_vectors_ND(self) -> Tensor:
        """Return the table of relative positions as the blocks take it."""
        return self.relative_embedding.weight

    def block_contexts(self, layout: SequenceLayout, indices: range, num_extra: int) -> Sequence[DebertaContext]:
        """See `Encoder`; extra blocks share the table of relative positions."""
        offsets = Offsets(layout, self.config.max_positions)
        index_W = self.config.relative_index(offsets.offset_W)
        context = DebertaContext(self.attention(layout), offsets, self.relative_vectors_ND(), index_W)
        return [context] * len(indices)

    def final_norm(self, x_TD: Tensor) -> Tensor:
        """See `Encoder`; the last block ends with a norm."""
        return x_TD
