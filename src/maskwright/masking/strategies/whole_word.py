"""Whole words: a word with all its tokens, or none of them.

Source: Devlin et al., release of BERT of May 2019 (whole-word masking); Cui et al. 2019, arXiv:1906.08101.
"""

import torch
from torch import Tensor

from maskwright.core.batches import WORD, PackedBatch
from maskwright.masking.strategies.base import Strategy, Units


class WholeWord(Strategy):
    """Hides words with all their tokens; every word is as likely as any other."""

    citation = "Cui et al. 2019, Pre-Training with Whole Word Masking for Chinese BERT, arXiv:1906.08101"
    needs_words = True

    def units(self, batch: PackedBatch, is_text_T: Tensor, generator: torch.Generator, progress: float) -> Units:
        """Make every word a unit, as the tokenizer says."""
        return Units(batch.marks[WORD])
