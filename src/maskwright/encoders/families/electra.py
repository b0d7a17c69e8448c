"""ELECTRA's encoder: BERT whose token embedding may be narrower than its hidden states.

Source: Clark et al. 2020, arXiv:2003.10555, table 6 (sizes small, base and large);
    `tests/parity/` compares with transformers' `ElectraForMaskedLM`.
Departures: those of `bert`.
"""

from typing import ClassVar

from maskwright.encoders.families.bert import Bert


class Electra(Bert):
    """ELECTRA."""

    SIZES: ClassVar = {
        "tiny": {
            "num_layers": 5,
            "hidden_size": 128,
            "embedding_size": 64,
            "num_heads": 2,
            "feed_forward_size": 512,
        },
        "mini": {
            "num_layers": 4,
            "hidden_size": 256,
            "embedding_size": 64,
            "num_heads": 4,
            "feed_forward_size": 1024,
        },
        "small": {
            "num_layers": 12,
            "hidden_size": 256,
            "embedding_size": 128,
            "num_heads": 4,
            "feed_forward_size": 1024,
        },
        "medium": {
            "num_layers": 8,
            "hidden_size": 512,
            "embedding_size": 128,
            "num_heads": 8,
            "feed_forward_size": 2048,
        },
        "base": {"num_layers": 12, "hidden_size": 768, "num_heads": 12, "feed_forward_size": 3072},
        "large": {"num_layers": 24, "hidden_size": 1024, "num_heads": 16, "feed_forward_size": 4096},
    }
    citation = "Clark et al. 2020, ELECTRA: Pre-training Text Encoders as Discriminators, arXiv:2003.10555"
    exporter = "electra"
