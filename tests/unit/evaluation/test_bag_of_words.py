"""The bag of words: it learns from words, knows nothing of unseen labels, and is said where it is not beaten."""

import numpy as np
import pytest

from maskwright.evaluation.bag_of_words import class_probabilities, numbers
from maskwright.evaluation.datasets.labelled import LabelledTexts

NOUNS = ["dog", "door", "bridge", "shop"]


def rows(texts, targets) -> LabelledTexts:
    return LabelledTexts([str(index) for index in range(len(texts))], texts, targets, "test")


def drawn(num_rows: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(NOUNS, 4)) for _ in range(num_rows)]


def test_a_class_that_a_word_gives_away_is_found():
    train, test = ([(text,) for text in drawn(num_rows, seed)] for num_rows, seed in ((80, 0), (40, 1)))
    targets = [["dog" in text for (text,) in each] for each in (train, test)]
    found_NC = class_probabilities(rows(train, targets[0]), rows(test, targets[1]), 2)
    assert found_NC.shape == (40, 2) and np.allclose(found_NC.sum(1), 1)
    assert (found_NC.argmax(1) == np.array(targets[1])).mean() > 0.9


def test_of_two_texts_it_sees_which_words_both_have():
    generator = np.random.default_rng(0)
    words = [f"word{index}" for index in range(12)]
    pairs = [tuple(generator.choice(words, 2)) for _ in range(1200)]
    pairs = [(one, one if generator.random() < 0.5 else other) for one, other in pairs]
    targets = [int(one == other) for one, other in pairs]
    found_NC = class_probabilities(rows(pairs[:1000], targets[:1000]), rows(pairs[1000:], targets[1000:]), 2)
    assert (found_NC.argmax(1) == np.array(targets[1000:])).mean() > 0.95


def test_classes_that_training_lacks_are_never_answered_and_one_class_is_always():
    train = rows([("a dog",), ("a door",)], [2, 0])
    assert class_probabilities(train, rows([("a dog",)], [1]), 3)[0, 1] == 0
    alone = rows([("a dog",), ("a door",)], [1, 1])
    assert class_probabilities(alone, rows([("a shop",)], [0]), 3).tolist() == [[0, 1, 0]]


def test_a_number_follows_from_words():
    train, test = drawn(100, 0), drawn(40, 1)
    targets = [[text.count("dog") for text in each] for each in (train, test)]
    found = numbers(rows([(text,) for text in train], targets[0]), rows([(text,) for text in test], targets[1]))
    assert np.corrcoef(found, targets[1])[0, 1] > 0.8


@pytest.mark.parametrize("texts", [[("",), ("!",)], [("\u200b",), ("狗",)]])
def test_texts_without_words_are_no_error(texts):
    assert class_probabilities(rows(texts, [0, 1]), rows(texts, [0, 1]), 2).shape == (2, 2)
