"""BERT's kind: words and punctuation marks, then greedy pieces; "##" continues a word.

Source: Schuster and Nakajima 2012, Japanese and Korean Voice Search; Devlin et al. 2019, BERT, arXiv:1810.04805.
"""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from maskwright.tokenization.kinds.base import Kind, keep_alphabet
from maskwright.tokenization.special_tokens import SPECIAL_TOKENS, UNK


class Wordpiece(Kind):
    """Greedy pieces of words, as BERT's."""

    def normalizer(self) -> normalizers.Normalizer:
        """See `Kind`: BERT's cleaning, with accents kept."""
        bert = normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=self.lowercase
        )
        return normalizers.Sequence([normalizers.NFC(), bert])

    def train(self, texts: Iterable[str], alphabet: str) -> Tokenizer:
        tokenizer = Tokenizer(models.WordPiece({}, unk_token=UNK))
        tokenizer.normalizer = self.normalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        # The trainer numbers the continuing characters in the order of a hash table; naming them first fixes the order.
        letters = [character for character in alphabet if not character.isspace()]
        trainer = trainers.WordPieceTrainer(
            vocab_size=self.vocabulary_size,
            special_tokens=[*SPECIAL_TOKENS, *letters, *("##" + letter for letter in letters)],
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        tokenizer.train_from_iterator(keep_alphabet(alphabet, tokenizer.normalizer, texts), trainer)
        trained = Tokenizer(models.WordPiece(tokenizer.get_vocab(), unk_token=UNK, max_input_chars_per_word=100))
        trained.normalizer, trained.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
        trained.decoder = decoders.WordPiece(cleanup=False)
        return trained
