"""Masks in a user's text, and examples from held-out text."""

import unicodedata

import numpy as np
import pytest
from tests.unit.evaluation.conftest import SENTENCES

from maskwright.core.errors import EvaluationError
from maskwright.evaluation.examples import (
    certainty_groups,
    fill_mask_examples,
    hidden_token,
    hidden_tokens,
    tidy_spaces,
)
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


def test_examples_hide_one_token_that_can_be_read_alone(any_tokenizer, make_model):
    model = make_model(any_tokenizer)
    sentence = "She closed the door and walked slowly down the stairs."
    found = [hidden_token(model, sentence, np.random.default_rng(seed)) for seed in range(8)]
    assert len({example.text for example in filter(None, found)}) > 1
    for example in filter(None, found):
        assert example.text.replace("[MASK]", example.answer) == sentence
        assert model.tokenizer.decode(example.cloze.target_ids).strip() == example.answer


def test_of_characters_one_letter_is_hidden(make_model):
    tokenizer = train_tokenizer(["abc def ghi"] * 3, TokenizerConfig(kind="characters", vocabulary_size=40))
    example = hidden_token(make_model(tokenizer), "abc def ghi", np.random.default_rng(1))
    assert example is not None
    assert len(example.answer) == 1
    assert example.text.replace("[MASK]", example.answer) == "abc def ghi"


@pytest.fixture
def many_sentences(tokenizer, corpus):
    """A held-out split of documents of three sentences."""
    random = np.random.default_rng(3)
    words = sorted({word.strip(".").lower() for sentence in SENTENCES for word in sentence.split()})
    sentences = [f"The {' '.join(random.choice(words, 6))}." for _ in range(120)]
    texts = [" ".join(sentences[first : first + 3]) for first in range(0, 120, 3)]
    return type(corpus.split("held_out"))(
        [np.array(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    )


def test_groups_say_how_often_the_model_is_right_where_it_is_sure():
    random = np.random.default_rng(0)
    sure = random.random(47)
    right = random.random(47) < sure
    groups = certainty_groups(sure, right)
    order = sorted(range(47), key=lambda index: -sure[index])
    for group, members in zip(groups, (order[:5], order[5:24], order[24:]), strict=True):
        assert group["num_tokens"] == len(members)
        assert group["num_right"] == sum(right[members])
        assert group["mean_probability"] == pytest.approx(sure[members].mean())
        assert group["lowest_probability"] == sure[members].min()
    assert [group["num_tokens"] for group in certainty_groups(sure[:2], right[:2])] == [1, 1]
    assert certainty_groups(sure[:0], right[:0]) == []


def test_examples_are_the_first_drawn_of_every_group_whether_right_or_wrong(model, many_sentences):
    hidden = list(hidden_tokens(model, many_sentences, seed=1))
    assert len(hidden) > 100
    best = [model.probabilities([each.cloze])[0] for each in hidden]
    for probabilities in best:
        probabilities[list(model.vocabulary.special_ids)] = 0
    sure = np.array([float(probabilities.max()) for probabilities in best])
    groups = certainty_groups(sure - 1e-5, np.zeros(len(sure), bool))  # not to hang on the last bits of a batch
    examples = fill_mask_examples(model, many_sentences, groups, 7, seed=1)
    below = 2.0
    for group, count in zip(groups, (3, 2, 2), strict=True):
        members = [index for index in range(len(hidden)) if group["lowest_probability"] <= sure[index] < below]
        shown = [example for example in examples if example["group"] == group]
        assert [example["text"] for example in shown] == [hidden[index].text for index in members[:count]]
        assert [example["predictions"][0]["probability"] for example in shown] == pytest.approx(sure[members[:count]])
        below = group["lowest_probability"]
    assert len(examples) == 7
    assert examples == fill_mask_examples(model, many_sentences, groups, 7, seed=1)
    assert examples != fill_mask_examples(model, many_sentences, groups, 7, seed=2)
    assert fill_mask_examples(model, many_sentences, groups, 0, seed=1) == []


def test_examples_are_read_where_training_has_nothing_like_it(model, many_sentences):
    many_sentences.is_shared = np.zeros(many_sentences.first_tokens[-1], bool)
    shared = set()
    for first, document in zip(many_sentences.first_tokens, many_sentences.documents, strict=False):
        end = document.tolist().index(model.tokenizer.convert_tokens_to_ids(".")) + 1
        many_sentences.is_shared[first : first + end] = True
        shared.add(tidy_spaces(model.tokenizer.decode(document[:end])))
    found = {each.text.replace("[MASK]", each.answer) for each in hidden_tokens(model, many_sentences, seed=1)}
    assert len(found) > 30
    assert not found & shared
    many_sentences.is_shared[:] = True
    assert list(hidden_tokens(model, many_sentences, seed=1)) == []


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
