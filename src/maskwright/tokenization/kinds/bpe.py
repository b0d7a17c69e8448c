"""GPT-2's kind: merges of bytes, so nothing is ever unknown.

Source: Sennrich et al. 2016, arXiv:1508.07909 (merges); Radford et al. 2019, Language Models are Unsupervised
    Multitask Learners (of bytes).
"""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from maskwright.tokenization.kinds.base import Kind
from maskwright.tokenization.special_tokens import SPECIAL_TOKENS

NUM_BYTES = 256


class Bpe(Kind):
    """Merges of bytes, as GPT-2's and RoBERTa's."""

    mask_takes_space = True

    def train(self, texts: Iterable[str], alphabet: str) -> Tokenizer:
        """See `Kind`; every byte has a token, so the vocabulary has at least that many."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = self.normalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=max(self.vocabulary_size, len(SPECIAL_TOKENS) + NUM_BYTES),
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return tokenizer
