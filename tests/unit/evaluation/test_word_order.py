"""Sentences with two words exchanged."""

from collections import Counter

import numpy as np
import pytest

from maskwright.core.errors import EvaluationError
from maskwright.core.randomness import numpy_generator
from maskwright.evaluation.tasks.word_order import WordOrder, exchange_words, make_exchanged_pairs


def test_an_exchange_keeps_the_words_and_moves_two_neighbours():
    sentence = "The old court, of 1848, heard a long appeal yesterday."
    words = sentence.split()
    for seed in range(30):
        exchanged = exchange_words(sentence, numpy_generator(seed, "test"))
        assert exchanged is not None
        places = [place for place, pair in enumerate(zip(words, exchanged.split(), strict=True)) if pair[0] != pair[1]]
        assert Counter(exchanged.split()) == Counter(words)
        assert len(places) == 2 and places[1] == places[0] + 1
        assert places[0] > 0
        assert all(words[place].isalpha() for place in places)


@pytest.mark.parametrize("sentence", ["", "One.", "A dog", "Stop! Now, please.", "that that That THAT.", "acgtacgtac"])
def test_what_has_no_two_words_to_exchange_is_left_out(sentence: str):
    assert exchange_words(sentence, numpy_generator(1, "test")) is None


def test_the_pairs_depend_on_seed_and_text_alone(corpus, make_model, tokenizer):
    first, second = make_model(tokenizer), make_model(tokenizer)
    pairs = make_exchanged_pairs(first, corpus, 4, seed=1)
    assert len(pairs) == 4
    assert make_exchanged_pairs(second, corpus, 4, seed=1).bad == pairs.bad
    assert make_exchanged_pairs(first, corpus, 4, seed=2).bad != pairs.bad
    assert all(good != bad for good, bad in zip(pairs.good, pairs.bad, strict=True))


def test_a_model_without_an_opinion_is_at_chance(corpus, model, make_subject, monkeypatch):
    monkeypatch.setattr(model.head, "forward", lambda x_MD, _: x_MD.new_zeros(len(x_MD), model.vocabulary.size))
    result = WordOrder(WordOrder.Config(num_pairs=5)).evaluate(make_subject(model, corpus), seed=1)
    assert result.scores == {"accuracy": 0.5, "num_pairs": 5, "num_ties": 5}
    assert result.baselines == {"chance": {"accuracy": 0.5}}


def test_text_without_words_is_told(corpus, model, make_subject, monkeypatch):
    monkeypatch.setattr("maskwright.evaluation.tasks.word_order.short_texts", lambda *_: iter(["acgt", "ggta"]))
    with pytest.raises(EvaluationError, match="can be exchanged"):
        WordOrder().evaluate(make_subject(model, corpus), seed=1)


def test_scores_are_of_the_items(corpus, model, make_subject):
    task = WordOrder(WordOrder.Config(num_pairs=6))
    result = task.evaluate(make_subject(model, corpus), seed=1)
    assert result.items is not None
    good, bad = (result.items.columns[f"{kind}_log_likelihood"] for kind in ("good", "bad"))
    assert result.scores["accuracy"] == np.mean(good > bad)
    assert task.scores(result.items.take(np.flatnonzero(good > bad))).get("accuracy", 1.0) == 1.0
