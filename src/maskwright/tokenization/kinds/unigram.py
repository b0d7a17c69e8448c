"""SentencePiece's kind: the most probable pieces; "▁" begins a word.

Source: Kudo 2018, Subword Regularization, arXiv:1804.10959.
"""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from maskwright.tokenization.kinds.base import Kind, keep_alphabet
from maskwright.tokenization.special_tokens import SPECIAL_TOKENS, UNK


class Unigram(Kind):
    """The most probable pieces, as SentencePiece's."""

    mask_takes_space = True

    def normalizer(self) -> normalizers.Normalizer:
        """See `Kind`: white space is one space."""
        spaces = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
        lower = [normalizers.Lowercase()] if self.lowercase else []
        return normalizers.Sequence([normalizers.NFC(), *lower, *spaces])

    def train(self, texts: Iterable[str], alphabet: str) -> Tokenizer:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = self.normalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        # Only [UNK] is a piece of the model: it would find the other special tokens in a text that spells them.
        num_others = len(SPECIAL_TOKENS) - 1
        trainer = trainers.UnigramTrainer(
            vocab_size=self.vocabulary_size - num_others, special_tokens=[UNK], unk_token=UNK, show_progress=False
        )
        tokenizer.train_from_iterator(keep_alphabet(alphabet, tokenizer.normalizer, texts), trainer)
        return tokenizer
