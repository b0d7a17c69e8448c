"""ModernBERT: pre-norm, rotary positions, gated feed-forward, no biases, local attention in two layers of three.

Source: Warner et al. 2024, arXiv:2412.13663; every option is that of transformers' `ModernBertForMaskedLM`, with which
    `tests/parity/test_transformers_parity.py` compares logits and gradients.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from maskwright.core.batches import SequenceLayout
from maskwright.encoders.attention import Attention, effective_window
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
from maskwright.encoders.rotary import Rotation


class ModernbertConfig(EncoderConfig):
    """Options of `modernbert`; defaults are ModernBERT's."""

    norm_bias: bool = Field(default=False, description="whether layer norms have a bias")
    head_bias: bool = Field(default=False, description="whether the vocabulary head's dense layer has a bias")
    attention_bias: bool = Field(default=False, description="whether the matrices of the attention have a bias")
    feed_forward_bias: bool = Field(
        default=False, description="whether the matrices of the feed-forward part have a bias"
    )
    global_attention_every: int = Field(
        default=3, gt=0, description="every n-th layer sees the whole sequence, others locally"
    )
    local_attention: int = Field(default=128, gt=0, description="total window of the local layers, in tokens")
    global_rope_theta: float = Field(
        default=160_000.0, gt=0, description="base of the rotary wavelengths in global layers"
    )
    local_rope_theta: float = Field(
        default=10_000.0, gt=0, description="base of the rotary wavelengths in local layers"
    )
    embedding_dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout of the embedded tokens")
    feed_forward_dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout within the feed-forward part")

    @property
    def output_initializer_range(self) -> float:
        """Standard deviation of the matrices that write to the residual stream: smaller in deeper encoders."""
        return self.initializer_range / math.sqrt(2.0 * self.num_layers)

    @property
    def head_initializer_range(self) -> float:
        """Standard deviation of the vocabulary head's fresh dense layer."""
        return self.output_initializer_range

    def block_matrix_parameters(self) -> int:
        """See `EncoderConfig`: queries, keys, values and output; values and gates, and back."""
        return 4 * self.hidden_size**2 + 3 * self.hidden_size * self.feed_forward_size

    def attention_windows(self, num_extra: int = 0) -> list[int | None]:
        return [
            None if index % self.global_attention_every == 0 else self.local_attention
            for index in range(self.num_layers + num_extra)
        ]


@dataclass(frozen=True)
class ModernbertContext:
    """What the blocks of one kind, global or local, share in a forward pass."""

    rotation: Rotation
    attention: Attention


class ModernbertBlock(Block):
    """Attention and gated feed-forward, each after a norm and added to its input."""

    def __init__(self, config: ModernbertConfig, index: int) -> None:
        """Make the block number `index`; the first has no attention norm, the embedding ends with one."""
        super().__init__()
        self.config = config
        width, inner = config.hidden_size, config.feed_forward_size
        self.attention_norm = nn.Identity() if index == 0 else layer_norm(config)
        self.qkv = StackedLinear(width, 3 * width, 3, bias=config.attention_bias)
        self.attention_out = nn.Linear(width, width, bias=config.attention_bias)
        self.feed_forward_norm = layer_norm(config)
        self.feed_forward_in = StackedLinear(width, 2 * inner, 2, bias=config.feed_forward_bias)
        self.feed_forward_out = nn.Linear(inner, width, bias=config.feed_forward_bias)

    def attend(self, x_TD: Tensor, context: ModernbertContext) -> Tensor:
        """See `Block`; queries and keys are rotated by their positions."""
        rate = self.config.attention_dropout if self.training else 0.0
        rotation, qkv_TD = context.rotation, self.qkv(self.attention_norm(x_TD))
        q_THK, k_THK, v_THK = qkv_TD.unflatten(-1, (3, self.config.num_heads, -1)).unbind(1)
        return context.attention.attend(rotation(q_THK), rotation(k_THK), v_THK, dropout_rate=rate).flatten(1)

    def finish(self, x_MD: Tensor, attended_MD: Tensor) -> Tensor:
        x_MD = x_MD + F.dropout(self.attention_out(attended_MD), self.config.attention_dropout, self.training)
        return x_MD + self._feed_forward(self.feed_forward_norm(x_MD))

    def give_back_input(self) -> None:
        zero_(self.attention_out, self.feed_forward_out)

    def _feed_forward(self, x_TD: Tensor) -> Tensor:
        value_TF, gate_TF = self.feed_forward_in(x_TD).chunk(2, dim=-1)
        x_TF = F.dropout(F.gelu(value_TF) * gate_TF, self.config.feed_forward_dropout, self.training)
        return self.feed_forward_out(x_TF)


class Modernbert(Encoder):
    """ModernBERT."""

    Config = ModernbertConfig
    SIZES: ClassVar = {
        "tiny": {"num_layers": 6, "hidden_size": 128, "num_heads": 2, "feed_forward_size": 256},
        "mini": {"num_layers": 6, "hidden_size": 256, "num_heads": 4, "feed_forward_size": 384},
        "small": {"num_layers": 12, "hidden_size": 384, "num_heads": 6, "feed_forward_size": 576},
        "medium": {"num_layers": 16, "hidden_size": 512, "num_heads": 8, "feed_forward_size": 768},
        "base": {"num_layers": 22, "hidden_size": 768, "num_heads": 12, "feed_forward_size": 1152},
        "large": {"num_layers": 28, "hidden_size": 1024, "num_heads": 16, "feed_forward_size": 2624},
    }
    citation = "Warner et al. 2024, Smarter, Better, Faster, Longer (ModernBERT), arXiv:2412.13663"
    exporter = "modernbert"

    def __init__(self, config: ModernbertConfig) -> None:
        """Make the modules; see `Encoder`."""
        super().__init__(config)
        self.config: ModernbertConfig = config
        self.token_embedding = nn.Embedding(config.vocabulary_size, config.embedding_width)
        self.embedding_norm = layer_norm(config, config.embedding_width)
        self.project_embedding = embedding_projection(config)
        self.blocks = nn.ModuleList([ModernbertBlock(config, index) for index in range(config.num_layers)])
        self.output_norm = layer_norm(config)

    def initialize(self, generator: torch.Generator) -> None:
        """Truncated normal; matrices that write to the residual stream get smaller with depth (Megatron)."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 1:
                nn.init.ones_(parameter)
            elif "_out." in name:
                truncated_normal_(parameter, self.config.output_initializer_range, generator)
            else:
                truncated_normal_(parameter, self.config.initializer_range, generator)

    def embed_vectors(self, x_TE: Tensor, position_ids_T: Tensor, segment_ids_T: Tensor) -> Tensor:
        """See `Encoder`; positions enter in the blocks, and there are no segments."""
        x_TE = F.dropout(self.embedding_norm(x_TE), self.config.embedding_dropout, self.training)
        return self.project_embedding(x_TE)

    def block_contexts(self, layout: SequenceLayout, indices: range, num_extra: int) -> Sequence[ModernbertContext]:
        """See `Encoder`; blocks with the same window share their masks, those with the same base their rotations."""
        config, windows = self.config, self.config.attention_windows(num_extra)
        attentions: dict[int | None, Attention] = {}
        rotations: dict[float, Rotation] = {}
        contexts = []
        # Where tokens are missing, neighbours are those that are near in the text, not in the row.
        farthest = layout.row_length if layout.has_contiguous_positions else config.max_positions
        for index in indices:
            theta = config.global_rope_theta if windows[index] is None else config.local_rope_theta
            if theta not in rotations:
                rotations[theta] = Rotation(layout.position_ids_T, config.head_size, theta)
            window = effective_window(windows[index], farthest)
            if window not in attentions:
                attentions[window] = self.attention(layout, window)
            contexts.append(ModernbertContext(rotations[theta], attentions[window]))
        return contexts

    def final_norm(self, x_TD: Tensor) -> Tensor:
        return self.output_norm(x_TD)
