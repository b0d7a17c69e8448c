"""Special tokens are found by role; a tokenizer that can't mask is refused with what to do."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from maskwright.core.errors import CorpusError
from maskwright.tokenization.folder import load_tokenizer
from maskwright.tokenization.special_tokens import vocabulary_of

WORDS = {"<pad>": 0, "<s>": 1, "</s>": 2, "<mask>": 3, "a": 4, "b": 5, "<extra>": 6}


def tokenizer(**roles: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel(WORDS, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **roles)


def test_bos_and_eos_stand_in_for_cls_and_sep() -> None:
    found = vocabulary_of(tokenizer(pad_token="<pad>", bos_token="<s>", eos_token="</s>", mask_token="<mask>"))
    assert (found.cls_id, found.sep_id, found.unk_id, found.size) == (1, 2, None, 7)
    assert found.special_ids == (0, 1, 2, 3)


def test_further_special_tokens_count() -> None:
    made = tokenizer(pad_token="<pad>", bos_token="<s>", eos_token="</s>", mask_token="<mask>")
    made.backend_tokenizer.add_special_tokens(["<extra>"])
    assert vocabulary_of(made).special_ids == (0, 1, 2, 3, 6)


def test_a_tokenizer_without_mask_token_is_refused_saying_what_to_do() -> None:
    with pytest.raises(CorpusError, match=r"no mask token[\s\S]*to do: .*add_special_tokens"):
        vocabulary_of(tokenizer(pad_token="<pad>", bos_token="<s>", eos_token="</s>"))


def test_the_checksum_follows_the_vocabulary_not_the_padding() -> None:
    roles = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>"}
    plain, padded, other = tokenizer(**roles), tokenizer(**roles), tokenizer(**{**roles, "mask_token": "<extra>"})
    padded.backend_tokenizer.enable_padding(length=7)
    assert vocabulary_of(plain).sha256 == vocabulary_of(padded).sha256 != vocabulary_of(other).sha256


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_a_folder_without_a_tokenizer_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CorpusError, match="no tokenizer could be loaded"):
        load_tokenizer(tmp_path)
    with pytest.raises(CorpusError, match="does not exist"):
        load_tokenizer(tmp_path / "absent")
