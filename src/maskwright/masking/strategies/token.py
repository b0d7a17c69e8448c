"""Single tokens, all alike.

Source: Devlin et al. 2018, arXiv:1810.04805, section 3.1.
"""

import torch
from torch import Tensor

from maskwright.core.batches import PackedBatch
from maskwright.masking.strategies.base import Strategy, Units


class Token(Strategy):
    """Hides single tokens, each as likely as any other."""

    citation = "Devlin et al. 2018, BERT: Pre-training of Deep Bidirectional Transformers, arXiv:1810.04805"

    def units(self, batch: PackedBatch, is_text_T: Tensor, generator: torch.Generator, progress: float) -> Units:
        """Make every token a unit."""
        return Units(torch.ones_like(is_text_T))
