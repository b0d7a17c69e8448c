"""The table of word-beginning tokens says what the encoding's own word numbers say."""

import numpy as np
import pytest
from tokenizers import Tokenizer

from maskwright.tokenization.special_tokens import plain_text_encoder
from maskwright.tokenization.train_tokenizer import TokenizerConfig, train_tokenizer
from maskwright.tokenization.word_starts import word_start_table

TEXTS = [
    "Don't stop: re-elected walkers walk (often) at 10:30, in #hash ##tags__ and snake_case.",
    "  Az őszi   erdőben \n\n sétálgattunk…  東京 タワー Ж ▁ [MASK]",
]


def encoder(kind: str) -> Tokenizer:
    config = TokenizerConfig(kind=kind, vocabulary_size=120)  # pyright: ignore[reportArgumentType]
    return plain_text_encoder(train_tokenizer(TEXTS[:1] * 3, config))


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_table_and_word_numbers_agree(kind: str) -> None:
    made = encoder(kind)
    table = word_start_table(made)
    assert table is not None
    for text in TEXTS:
        encoding = made.encode(text, add_special_tokens=False)
        numbers = np.array(encoding.word_ids)
        expected = np.concatenate([[True], numbers[1:] != numbers[:-1]])
        assert np.array_equal(table[encoding.ids], expected), list(zip(encoding.tokens, numbers, strict=True))


@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_kinds_whose_tokens_do_not_say_have_no_table(kind: str) -> None:
    assert word_start_table(encoder(kind)) is None
