"""A token for every character, white space too; words are what stands between white space.

Source: none of one paper.
"""

from collections.abc import Iterable

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from maskwright.tokenization.kinds.base import Kind
from maskwright.tokenization.special_tokens import SPECIAL_TOKENS, UNK


class Characters(Kind):
    """One token for every character."""

    def num_letters(self, counts: np.ndarray) -> int:
        """See `Kind`: as many as the vocabulary holds."""
        return min(len(counts), self.vocabulary_size - len(SPECIAL_TOKENS))

    def train(self, texts: Iterable[str], alphabet: str) -> Tokenizer:
        """See `Kind`; nothing is learned beyond the alphabet."""
        vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *sorted(alphabet)])}
        tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token=UNK, fuse_unk=False))
        tokenizer.normalizer = self.normalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s"), "isolated")
        tokenizer.decoder = decoders.Fuse()
        return tokenizer
