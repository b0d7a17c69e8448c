"""BERT: learned positions, token types, biases everywhere, norms after (or, on request, before) each part.

Source: Devlin et al. 2018, arXiv:1810.04805; with `norm_position: post` every option is that of transformers'
    `BertForMaskedLM`, with which `tests/parity/test_transformers_parity.py` compares logits and gradients. Norms before
    the parts, and one after the last block: Xiong et al. 2020, arXiv:2002.04745. Sizes mini to medium: Turc et al.
    2019, arXiv:1908.08962.
Departures: no dropout unless asked for.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from maskwright.core.batches import SequenceLayout
from maskwright.encoders.attention import Attention
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import (
    Block,
    Encoder,
    StackedLinear,
    embedding_projection,
    layer_norm,
    truncated_normal_,
    zero_,
)


class BertConfig(EncoderConfig):
    """Options of `bert`; defaults are BERT's, except that nothing is dropped."""

    norm_eps: float = Field(default=1e-12, gt=0, description="added to the variance in layer norms")
    num_segments: int = Field(default=2, gt=0, description="number of token types")
    norm_position: Literal["post", "pre"] = Field(
        default="post",
        description="post: norms after each part, as BERT; pre: before it (can't be exported as a Bert* class)",
    )
    hidden_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="dropout of embeddings and of each part's output"
    )

    def block_matrix_parameters(self) -> int:
        """See `EncoderConfig`: queries, keys, values and output; feed-forward there and back."""
        return 4 * self.hidden_size**2 + 2 * self.hidden_size * self.feed_forward_size


class BertBlock(Block):
    """Attention and feed-forward, each added to its input, with a norm after the sum or before the part."""

    def __init__(self, config: BertConfig) -> None:
        """Make a block."""
        super().__init__()
        self.config = config
        width, inner = config.hidden_size, config.feed_forward_size
        self.qkv = StackedLinear(width, 3 * width, 3)
        self.attention_out = nn.Linear(width, width)
        self.attention_norm = layer_norm(config)
        self.feed_forward_in = nn.Linear(width, inner)
        self.feed_forward_out = nn.Linear(inner, width)
        self.feed_forward_norm = layer_norm(config)

    def attend(self, x_TD: Tensor, context: Attention) -> Tensor:
        if self.config.norm_position == "pre":
            x_TD = self.attention_norm(x_TD)
        rate = self.config.attention_dropout if self.training else 0.0
        q_THK, k_THK, v_THK = self.qkv(x_TD).unflatten(-1, (3, self.config.num_heads, -1)).unbind(1)
        return context.attend(q_THK, k_THK, v_THK, dropout_rate=rate).flatten(1)

    def finish(self, x_MD: Tensor, attended_MD: Tensor) -> Tensor:
        x_MD = x_MD + F.dropout(self.attention_out(attended_MD), self.config.hidden_dropout, self.training)
        if self.config.norm_position == "pre":
            return x_MD + self._feed_forward(self.feed_forward_norm(x_MD))
        x_MD = self.attention_norm(x_MD)
        return self.feed_forward_norm(x_MD + self._feed_forward(x_MD))

    def give_back_input(self) -> None:
        """See `Block`; with norms after the sums it can't."""
        if self.config.norm_position == "post":
            super().give_back_input()
        zero_(self.attention_out, self.feed_forward_out)

    def _feed_forward(self, x_TD: Tensor) -> Tensor:
        x_TD = self.feed_forward_out(F.gelu(self.feed_forward_in(x_TD)))
        return F.dropout(x_TD, self.config.hidden_dropout, self.training)


class Bert(Encoder):
    """BERT."""

    Config = BertConfig
    SIZES: ClassVar = {
        "tiny": {"num_layers": 5, "hidden_size": 128, "num_heads": 2, "feed_forward_size": 512},
        "mini": {"num_layers": 4, "hidden_size": 256, "num_heads": 4, "feed_forward_size": 1024},
        "small": {"num_layers": 4, "hidden_size": 512, "num_heads": 8, "feed_forward_size": 2048},
        "medium": {"num_layers": 8, "hidden_size": 512, "num_heads": 8, "feed_forward_size": 2048},
        "base": {"num_layers": 12, "hidden_size": 768, "num_heads": 12, "feed_forward_size": 3072},
        "large": {"num_layers": 24, "hidden_size": 1024, "num_heads": 16, "feed_forward_size": 4096},
    }
    citation = "Devlin et al. 2018, BERT: Pre-training of Deep Bidirectional Transformers, arXiv:1810.04805"
    exporter = "bert"

    def __init__(self, config: BertConfig) -> None:
        """Make the modules; see `Encoder`."""
        super().__init__(config)
        self.config: BertConfig = config
        width = config.embedding_width
        self.token_embedding = nn.Embedding(config.vocabulary_size, width)
        self.position_embedding = nn.Embedding(config.max_positions, width)
        self.segment_embedding = nn.Embedding(config.num_segments, width)
        self.embedding_norm = layer_norm(config, width)
        self.project_embedding = embedding_projection(config)
        self.blocks = nn.ModuleList([BertBlock(config) for _ in range(config.num_layers)])
        self.output_norm = layer_norm(config) if config.norm_position == "pre" else nn.Identity()

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
        x_TE = x_TE + self.segment_embedding(segment_ids_T)
        x_TE = self.embedding_norm(x_TE + self.position_embedding(position_ids_T))
        return self.project_embedding(F.dropout(x_TE, self.config.hidden_dropout, self.training))

    def block_contexts(self, layout: SequenceLayout, indices: range, num_extra: int) -> Sequence[Attention]:
        """See `Encoder`; positions have entered in `embed_vectors`."""
        return [self.attention(layout)] * len(indices)

    def final_norm(self, x_TD: Tensor) -> Tensor:
        return self.output_norm(x_TD)
