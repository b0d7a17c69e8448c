"""Long texts are cut where every kind of tokenizer splits anyway, so cutting changes no token."""

import pytest

from maskwright.core.discovery import plug_in_names
from maskwright.corpus.sources.base import cut_position
from maskwright.tokenization.special_tokens import plain_text_encoder
from maskwright.tokenization.train_tokenizer import TokenizerConfig, train_tokenizer

TEXT = "The court heard  the appeal,\nand ruled against it:\tnothing   was paid. Hóvihar jött a hegyek közé! "
KINDS = [kind for kind in plug_in_names("maskwright.tokenization.kinds") if kind != "kmer"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_of_both_parts_are_those_of_the_whole(kind):
    encoder = plain_text_encoder(train_tokenizer([TEXT] * 8, TokenizerConfig(kind=kind, vocabulary_size=300)))

    def token_ids(text: str) -> list[int]:
        return encoder.encode(text, add_special_tokens=False).ids

    whole = token_ids(TEXT)
    cuts = {cut_position(TEXT, start) for start in range(len(TEXT) - 10)}
    assert len(cuts) > 10
    for cut in cuts:
        assert token_ids(TEXT[:cut]) + token_ids(TEXT[cut:]) == whole, repr(TEXT[cut - 5 : cut + 5])


def test_a_text_without_a_space_is_cut_where_it_was_asked():
    assert cut_position("x" * 50, 20) == 20
    assert cut_position("a  b  c", 0) == 0
