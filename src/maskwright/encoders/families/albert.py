"""ALBERT: one block that is run again and again, and a narrow token embedding.

Source: Lan et al. 2019, arXiv:1909.11942, section 3.1 (sizes base and large: table 1); `tests/parity/` compares with
    transformers' `AlbertForMaskedLM`.
Departures: GELU is exact, as in our other families, where the released models approximate it by tanh; no dropout unless
    asked for.
Cost: the memory of one block, the work of all: sharing makes no step faster.
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from maskwright.encoders.families.bert import Bert, BertBlock, BertConfig


class Albert(Bert):
    """ALBERT."""

    SIZES: ClassVar = {
        "tiny": {
            "num_layers": 5,
            "hidden_size": 288,
            "embedding_size": 64,
            "num_heads": 4,
            "feed_forward_size": 1152,
        },
        "mini": {
            "num_layers": 6,
            "hidden_size": 384,
            "embedding_size": 64,
            "num_heads": 6,
            "feed_forward_size": 1536,
        },
        "small": {
            "num_layers": 12,
            "hidden_size": 512,
            "embedding_size": 128,
            "num_heads": 8,
            "feed_forward_size": 2048,
        },
        "medium": {
            "num_layers": 12,
            "hidden_size": 640,
            "embedding_size": 128,
            "num_heads": 10,
            "feed_forward_size": 2560,
        },
        "base": {
            "num_layers": 12,
            "hidden_size": 768,
            "embedding_size": 128,
            "num_heads": 12,
            "feed_forward_size": 3072,
        },
        "large": {
            "num_layers": 24,
            "hidden_size": 1024,
            "embedding_size": 128,
            "num_heads": 16,
            "feed_forward_size": 4096,
        },
    }
    citation = "Lan et al. 2019, ALBERT: A Lite BERT for Self-supervised Learning, arXiv:1909.11942"
    exporter = "albert"

    def __init__(self, config: BertConfig) -> None:
        """Make the modules; see `Encoder`."""
        super().__init__(config)
        self.blocks = nn.ModuleList([BertBlock(config)])

    @property
    def layers(self) -> Sequence[nn.Module]:
        """See `Encoder`: the one block, as often as there are layers."""
        return [self.blocks[0]] * self.config.num_layers
