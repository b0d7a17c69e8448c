"""Every kind of tokenizer: deterministic, with the special tokens of all, portable, and honest about its source."""

import inspect

import pytest

from maskwright.core.discovery import plug_in_names
from maskwright.tokenization.folder import load_tokenizer, save_tokenizer
from maskwright.tokenization.special_tokens import SPECIAL_TOKENS, vocabulary_of
from maskwright.tokenization.train_tokenizer import KINDS, TokenizerConfig, train_tokenizer

TEXTS = ["ACGT ACGTTA the court ruled, and the appeal was lost.", "TTAGGC acg the lower court followed it."] * 8
KIND_NAMES = plug_in_names(KINDS.package)


@pytest.fixture(params=KIND_NAMES)
def config(request) -> TokenizerConfig:
    return TokenizerConfig.model_validate({"kind": request.param, "vocabulary_size": 5000})


def test_it_has_the_special_tokens_and_keeps_to_its_size(config):
    tokenizer = train_tokenizer(TEXTS, config)
    vocabulary = vocabulary_of(tokenizer)
    assert {tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS} == set(vocabulary.special_ids)
    assert vocabulary.size <= config.vocabulary_size
    ids = tokenizer("ACGTTA [MASK] court")["input_ids"]
    assert (ids[0], ids[-1], ids.count(vocabulary.mask_id)) == (vocabulary.cls_id, vocabulary.sep_id, 1)


def test_text_in_another_order_gives_the_same_tokens(config):
    one, other = (train_tokenizer(texts, config) for texts in (TEXTS, TEXTS[::-1]))
    assert set(one.get_vocab()) == set(other.get_vocab())


def test_it_is_the_same_from_its_folder(config, tmp_path):
    tokenizer = train_tokenizer(TEXTS, config)
    save_tokenizer(tokenizer, tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert vocabulary_of(loaded) == vocabulary_of(tokenizer)
    assert loaded(TEXTS[0])["input_ids"] == tokenizer(TEXTS[0])["input_ids"]


def test_what_an_encoding_covers_is_the_text(config):
    """Offsets ascend, so that marks of the text, such as where a sentence begins, find their tokens."""
    encoding = train_tokenizer(TEXTS, config).backend_tokenizer.encode(TEXTS[0], add_special_tokens=False)
    ends = [end for _, end in encoding.offsets]
    assert ends == sorted(ends) and ends[-1] == len(TEXTS[0])


def test_it_names_its_source(config):
    assert "Source: " in (inspect.getmodule(config.kind.plug_in).__doc__ or "")


@pytest.mark.parametrize("name", KIND_NAMES)
def test_every_option_does_something(name):
    """Those that all kinds share too: another value changes the tokens, or is refused."""
    own = {"k": 3}
    base = {"kind": {"name": name}, "vocabulary_size": 5000}
    before = train_tokenizer(TEXTS, TokenizerConfig.model_validate(base)).get_vocab()
    changes = [{"kind": {"name": name, key: own[key]}} for key in KINDS.choose(name).plug_in.Config.model_fields]
    for change in [*changes, {"lowercase": True}, {"vocabulary_size": 16}]:
        try:
            config = TokenizerConfig.model_validate(base | change)
        except ValueError:
            continue
        assert train_tokenizer(TEXTS, config).get_vocab() != before or (name == "bpe" and "vocabulary_size" in change)
