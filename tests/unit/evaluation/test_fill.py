"""Masks in a user's text, and examples from held-out text."""

import unicodedata

import numpy as np
import pytest

from maskwright.core.errors import EvaluationError
from maskwright.evaluation.examples import fill_mask_examples, hidden_word, tidy_spaces
from maskwright.evaluation.fill import fill_masks, masked_token_ids, pieces_between_masks
from maskwright.evaluation.scorer import MaskedLanguageModel
from maskwright.tokenization.train_tokenizer import TokenizerConfig, train_tokenizer


@pytest.mark.parametrize("mask", ["[MASK]", "<mask>"])
def test_every_way_to_write_a_mask_means_the_same(model: MaskedLanguageModel, mask: str):
    filled = fill_masks(model, f"The court {mask} the appeal.", top=3)
    assert filled == fill_masks(model, "The court [MASK] the appeal.", top=3)
    (guesses,) = filled.guesses
    assert len(guesses) == 3
    assert [guess.probability for guess in guesses] == sorted((guess.probability for guess in guesses), reverse=True)
    assert not {guess.token_id for guess in guesses} & set(model.vocabulary.special_ids)
    assert filled.text.endswith(" the appeal.")
    assert guesses[0].token.removeprefix("##") in filled.text


def test_a_mask_stands_for_a_word_as_it_was_in_training(any_tokenizer, make_model):
    model = make_model(any_tokenizer)
    whole, half, before = (
        any_tokenizer.encode(text, add_special_tokens=False)
        for text in ("The court dismissed the appeal", "The court", "The")
    )
    masked = masked_token_ids(model, pieces_between_masks(model, "The [MASK] dismissed the appeal"))
    assert masked.tolist() == [*before, model.vocabulary.mask_id, *whole[len(half) :]]


def test_several_masks_are_filled_and_the_rest_of_the_text_stays(model: MaskedLanguageModel):
    filled = fill_masks(model, "Ünder [MASK], [MASK]  dog!")
    assert len(filled.guesses) == 2
    assert filled.text.startswith("Ünder") or filled.guesses[0][0].token.startswith("##")
    assert filled.text.endswith("  dog!")
    assert "[MASK]" not in filled.text


def test_text_is_normalised_as_the_corpus_was(model: MaskedLanguageModel):
    text = "Crème brûlée [MASK]"
    assert fill_masks(model, unicodedata.normalize("NFD", text)) == fill_masks(model, text)


def test_a_text_without_mask_or_too_long_is_refused(model: MaskedLanguageModel):
    with pytest.raises(EvaluationError, match=r"no mask[\s\S]*\[MASK\]"):
        fill_masks(model, "The court dismissed the appeal.")
    with pytest.raises(EvaluationError, match="at most 62"):
        fill_masks(model, "the [MASK] " * 40)


def test_examples_hide_one_whole_word(any_tokenizer, make_model):
    model = make_model(any_tokenizer)
    sentence = "She closed the door and walked slowly down the stairs."
    found = [hidden_word(model, sentence, np.random.default_rng(seed)) for seed in range(8)]
    for example in filter(None, found):
        assert example["text"].replace("[MASK]", example["answer"]) == sentence
        assert example["answer"].isalpha()
        assert len(example["predictions"]) == 5
    assert any(found)


def test_where_no_token_is_a_word_one_letter_is_hidden(make_model):
    tokenizer = train_tokenizer(["abc def ghi"] * 3, TokenizerConfig(kind="characters", vocabulary_size=40))
    example = hidden_word(make_model(tokenizer), "abc def ghi", np.random.default_rng(1))
    assert example is not None
    assert len(example["answer"]) == 1
    assert example["text"].replace("[MASK]", example["answer"]) == "abc def ghi"


def test_examples_come_from_held_out_sentences(model: MaskedLanguageModel, corpus):
    examples = fill_mask_examples(model, corpus.split("held_out"), 4, seed=1)
    assert len(examples) == 4
    assert examples == fill_mask_examples(model, corpus.split("held_out"), 4, seed=1)
    assert examples != fill_mask_examples(model, corpus.split("held_out"), 4, seed=2)
    known = " ".join(corpus.tokenizer.decode(document) for document in corpus.split("held_out").documents)
    for example in examples:
        assert example["text"].replace("[MASK]", example["answer"]) in tidy_spaces(known)
    assert fill_mask_examples(model, corpus.split("held_out"), 0, seed=1) == []


@pytest.mark.parametrize(
    ("decoded", "read"),
    [
        ("the cat , the dog ( and I ) .", "the cat, the dog (and I)."),
        ("don ' t , it ' s", "don't, it's"),
        ("a : b", "a: b"),
    ],
)
def test_gaps_around_punctuation_are_closed(decoded: str, read: str):
    assert tidy_spaces(decoded) == read
