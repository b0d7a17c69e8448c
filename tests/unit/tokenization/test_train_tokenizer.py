"""Trained tokenizers are deterministic, portable, reversible where they should be, and safe from special text."""

import hashlib
import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from maskwright.core.errors import CorpusError
from maskwright.tokenization.folder import load_tokenizer, save_tokenizer
from maskwright.tokenization.special_tokens import SPECIAL_TOKENS, plain_text_encoder, vocabulary_of
from maskwright.tokenization.train_tokenizer import TokenizerConfig, train_tokenizer

KINDS = ("wordpiece", "unigram", "bpe", "characters")
"""Those for text of natural languages."""

VERSION_0_1 = {
    ("wordpiece", False): "2250606d053f61fa",
    ("wordpiece", True): "2f5a1b3b8347b94f",
    ("bpe", False): "3948c1c964682748",
    ("bpe", True): "9119914aeb5352b1",
    ("characters", False): "9f5d3240900d793d",
    ("characters", True): "09a64f169813a09a",
}
"""Checksums of what version 0.1 trained on `TEXTS`; that of unigram depends on the order of a hash table."""

TEXTS = [
    "The court affirmed the appeal, and the lower courts followed it.",
    "Az élet szép; a bíróság elutasította a fellebbezést.\n\nÚj bekezdés kezdődik itt.",
    "Walking, walked, walks: the walker walks\tand talks of a courtly courtier.",
    "東京は日本の首都です。 Tokyo is the capital of Japan.",
] * 3


def trained(kind: str, texts: list[str] = TEXTS, size: int = 300, lowercase: bool = False) -> PreTrainedTokenizerFast:
    config = TokenizerConfig.model_validate({"kind": kind, "vocabulary_size": size, "lowercase": lowercase})
    return train_tokenizer(texts, config)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "characters"])
def test_the_same_text_in_any_order_gives_the_same_tokenizer(kind: str) -> None:
    first = trained(kind).backend_tokenizer.to_str()
    assert all(trained(kind, TEXTS[::-1]).backend_tokenizer.to_str() == first for _ in range(5))


@pytest.mark.parametrize(("kind", "lowercase"), VERSION_0_1)
def test_the_tokenizer_is_that_of_version_0_1(kind: str, lowercase: bool) -> None:
    found = trained(kind, lowercase=lowercase).backend_tokenizer.to_str()
    assert hashlib.sha256(found.encode()).hexdigest()[:16] == VERSION_0_1[kind, lowercase]


def test_unigram_finds_the_same_pieces_again() -> None:
    first = trained("unigram", size=120).get_vocab()
    assert all(set(trained("unigram", size=120).get_vocab()) == set(first) for _ in range(3))


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tokenizer_is_the_same_when_loaded_and_names_a_class_that_old_transformers_know(
    kind: str, tmp_path: Path
) -> None:
    tokenizer = trained(kind)
    tokenizer(TEXTS, padding="max_length", truncation=True, max_length=8)
    save_tokenizer(tokenizer, tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert vocabulary_of(loaded) == vocabulary_of(tokenizer)
    assert loaded("the court [MASK] it")["input_ids"] == tokenizer("the court [MASK] it")["input_ids"]
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "backend" not in settings
    state = json.loads((tmp_path / "tokenizer.json").read_text())
    assert state["padding"] is None
    assert state["truncation"] is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_is_cls_text_sep_and_the_mask_is_one_token(kind: str) -> None:
    tokenizer = trained(kind)
    vocabulary = vocabulary_of(tokenizer)
    ids = tokenizer("the [MASK] courts")["input_ids"]
    assert (ids[0], ids[-1], ids.count(vocabulary.mask_id)) == (vocabulary.cls_id, vocabulary.sep_id, 1)
    assert {tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS} == set(vocabulary.special_ids)
    assert vocabulary.size == len(tokenizer) <= 300


@pytest.mark.parametrize("kind", KINDS)
def test_text_that_spells_special_tokens_is_plain_text(kind: str) -> None:
    texts = [*TEXTS, "The words [MASK] and [CLS] and [SEP] and [PAD] are text here. [MASK] [MASK] [MASK]"]
    tokenizer = trained(kind, texts)
    vocabulary = vocabulary_of(tokenizer)
    encoded = plain_text_encoder(tokenizer).encode("a [MASK] b [CLS] [SEP][PAD]", add_special_tokens=False)
    assert not set(encoded.ids) & (set(vocabulary.special_ids) - {vocabulary.unk_id})
    assert vocabulary.mask_id in tokenizer("a [MASK] b")["input_ids"]


@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_every_character_and_white_space_comes_back(kind: str) -> None:
    tokenizer = trained(kind)
    for text in TEXTS:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_characters_are_one_token_each_and_unknown_ones_too() -> None:
    tokenizer = trained("characters")
    assert tokenizer.tokenize("a b\nЖЖc") == ["a", " ", "b", "\n", "[UNK]", "[UNK]", "c"]


def test_bytes_are_never_unknown() -> None:
    tokenizer = trained("bpe")
    assert vocabulary_of(tokenizer).unk_id not in tokenizer("Ж ✓ 🙂 \x07")["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_lower_case_and_composed_characters_are_one_with_their_likes(kind: str) -> None:
    tokenizer = trained(kind, lowercase=True)
    assert tokenizer("Élet")["input_ids"] == tokenizer("e\u0301let")["input_ids"]


def test_rare_characters_do_not_crowd_out_the_vocabulary() -> None:
    rare = "".join(map(chr, range(0x4E00, 0x4E00 + 500)))
    tokenizer = trained("wordpiece", [*TEXTS * 100, rare], size=200)
    assert len(tokenizer) <= 200
    assert "court" in tokenizer.get_vocab()


def test_an_iterator_is_enough() -> None:
    config = TokenizerConfig(vocabulary_size=300)
    assert train_tokenizer(iter(TEXTS), config).get_vocab() == trained("wordpiece").get_vocab()


def test_no_text_is_refused() -> None:
    with pytest.raises(CorpusError, match="no text"):
        train_tokenizer([], TokenizerConfig())


def kmers(k: int = 3, **options: object) -> PreTrainedTokenizerFast:
    config = TokenizerConfig.model_validate({"kind": {"name": "kmer", "k": k}, "vocabulary_size": 4200, **options})
    return train_tokenizer(["ACGT"], config)


def test_kmers_are_runs_of_bases_and_single_ones_where_a_run_is_broken(tmp_path: Path) -> None:
    tokenizer = kmers()
    assert tokenizer.tokenize("ACGTTNacgAC") == ["ACG", "T", "T", "N", "ACG", "A", "C"]
    assert tokenizer.tokenize("ACG\nTTA x") == ["ACG", "TTA", "[UNK]"]
    assert len(kmers(1)) == 5 + 5 and len(tokenizer) == 5 + 5 + 4**3 and len(kmers(6)) == 5 + 5 + 4**6
    ids = tokenizer("ACGTTAN", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == "ACGTTAN"
    save_tokenizer(tokenizer, tmp_path)
    assert load_tokenizer(tmp_path)("acg[MASK]")["input_ids"] == tokenizer("ACG[MASK]")["input_ids"]


@pytest.mark.parametrize(
    ("options", "message"), [({"k": 7}, "16,394 tokens"), ({"lowercase": True}, "upper case"), ({"size": 3}, "size")]
)
def test_what_kmers_can_not_be_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenizerConfig.model_validate(
            {"kind": {"name": "kmer", **{key: value for key, value in options.items() if key != "lowercase"}}}
            | {key: value for key, value in options.items() if key == "lowercase"}
        )
