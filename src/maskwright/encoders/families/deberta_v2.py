"""DeBERTa of the second and third version: positions share the tokens' projections, far distances share vectors.

Source: He et al. 2021, DeBERTaV3, arXiv:2111.09543 (the encoder), and the released code of arXiv:2006.03654, version 2.
    Every option is that of transformers' `DebertaV2ForMaskedLM`, with which
    `tests/parity/test_transformers_parity.py` compares logits and gradients.
Departures: no dropout unless asked for; no convolution in the first layer, which only the version 2 models have.
"""

from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from maskwright.encoders.encoder import StackedLinear, layer_norm
from maskwright.encoders.families.deberta import Deberta, DebertaBlock, DebertaConfig


class DebertaV2Config(DebertaConfig):
    """Options of `deberta_v2`; defaults are those of DeBERTaV3, except that nothing is dropped."""

    position_buckets: int = Field(
        default=256,
        ge=0,
        description="vectors of relative positions in each direction; distances over half of it share them, "
        "the more the further; 0: one for each distance",
    )
    shared_projections: bool = Field(
        default=True, description="whether positions have the queries' and keys' projections of the tokens"
    )
    relative_norm: bool = Field(default=True, description="whether a norm comes after the table of relative positions")

    @model_validator(mode="after")
    def _buckets_have_two_halves(self) -> Self:
        if self.position_buckets in (1, 2, 3):
            raise ValueError(f"position_buckets is {self.position_buckets}, not 0 and less than 4")
        return self

    @property
    def num_relative_vectors(self) -> int:
        """Rows of the table of relative positions; half of them are for each direction."""
        return 2 * (self.position_buckets or self.distance_limit)

    def relative_index(self, distance_W: Tensor) -> Tensor:
        """Return the row of the table of relative positions for each distance (query minus key), int64 [W]."""
        if self.position_buckets:
            distance_W = log_buckets(distance_W, self.position_buckets, self.distance_limit)
        half = self.num_relative_vectors // 2
        return (distance_W + half).clamp(0, 2 * half - 1)


class DebertaV2Block(DebertaBlock):
    """`DebertaBlock` with other projections."""

    config: DebertaV2Config

    def make_projections(self, width: int) -> None:
        """Make what projects tokens and, unless it is shared, relative positions; everything has a bias."""
        self.qkv = StackedLinear(width, 3 * width, 3)
        if self.config.shared_projections:
            return
        if self.config.content_to_position:
            self.position_key = nn.Linear(width, width)
        if self.config.position_to_content:
            self.position_query = nn.Linear(width, width)

    def project(self, x_TD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, float [T, H, K]; in the matrix those of all heads lie together."""
        q_THK, k_THK, v_THK = self.qkv(x_TD).unflatten(-1, (3, self.config.num_heads, -1)).unbind(1)
        return q_THK, k_THK, v_THK

    def project_positions(self, x_WD: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return keys and queries of relative positions, float [W, H, K]; None for a term that there isn't."""
        if not self.config.shared_projections:
            return super().project_positions(x_WD)
        q_WHK, k_WHK, _ = self.project(x_WD)
        return (
            k_WHK if self.config.content_to_position else None,
            q_WHK if self.config.position_to_content else None,
        )


class DebertaV2(Deberta):
    """DeBERTa of the second and third version; xsmall, small, base and large are DeBERTaV3's."""

    Config = DebertaV2Config
    SIZES: ClassVar = {
        "tiny": {"num_layers": 5, "hidden_size": 128, "num_heads": 2, "feed_forward_size": 512},
        "mini": {"num_layers": 4, "hidden_size": 256, "num_heads": 4, "feed_forward_size": 1024},
        "xsmall": {"num_layers": 12, "hidden_size": 384, "num_heads": 6, "feed_forward_size": 1536},
        "small": {"num_layers": 6, "hidden_size": 768, "num_heads": 12, "feed_forward_size": 3072},
        "medium": {"num_layers": 9, "hidden_size": 768, "num_heads": 12, "feed_forward_size": 3072},
        "base": {"num_layers": 12, "hidden_size": 768, "num_heads": 12, "feed_forward_size": 3072},
        "large": {"num_layers": 24, "hidden_size": 1024, "num_heads": 16, "feed_forward_size": 4096},
    }
    citation = "He et al. 2021, DeBERTaV3, arXiv:2111.09543; He et al. 2020, DeBERTa, arXiv:2006.03654"
    exporter = "deberta_v2"
    block_class = DebertaV2Block

    def __init__(self, config: DebertaV2Config) -> None:
        """Make the modules; see `Encoder`."""
        super().__init__(config)
        self.relative_norm = layer_norm(config) if config.relative_norm else nn.Identity()

    def relative_vectors_ND(self) -> Tensor:
        """Return the table of relative positions as the blocks take it."""
        return self.relative_norm(self.relative_embedding.weight)


def log_buckets(distance_W: Tensor, num_buckets: int, limit: int) -> Tensor:
    """Return distances with the far ones taken together, int64 [W].

    Up to `num_buckets / 2` nothing changes; from there to `limit` the logarithm of the distance is cut into equal
    parts, as many again. Float32 in this order of operations, on which it depends where a part ends.

    Args:
        distance_W: int64, of either sign.
        num_buckets: of each sign.
        limit: distances are expected to be less.
    """
    middle = num_buckets // 2
    far_W = distance_W.abs().clamp(min=middle) / middle
    share_W = far_W.log() / torch.full((), (limit - 1) / middle, device=distance_W.device).log()
    bucket_W = (share_W * (middle - 1)).ceil() + middle
    return torch.where(distance_W.abs() <= middle, distance_W, (bucket_W * distance_W.sign()).long())
