"""The audit counts what it says it counts."""

import pytest

from maskwright.tokenization.audit import audit
from maskwright.tokenization.train_tokenizer import TokenizerConfig, train_tokenizer


def test_unknown_characters_fertility_and_coverage_are_exact() -> None:
    tokenizer = train_tokenizer(["ab ba"], TokenizerConfig(kind="characters", vocabulary_size=50))
    found = audit(tokenizer, ["ab ЖЖ", "ab"])
    assert found.kind == "characters"
    assert found.num_sampled_documents == 2
    assert found.unknown_rate == pytest.approx(2 / 7)
    assert found.character_coverage == pytest.approx(5 / 7)
    assert found.tokens_per_word == pytest.approx(7 / 3)
    assert found.characters_per_token == 1
    assert found.sample_tokens == ["a", "b", " ", "[UNK]", "[UNK]"]


def test_no_text_gives_numbers_all_the_same() -> None:
    tokenizer = train_tokenizer(["ab ba"], TokenizerConfig(kind="wordpiece", vocabulary_size=50))
    assert audit(tokenizer, []).character_coverage == 1
