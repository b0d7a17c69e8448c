"""Metrics, each against another way to compute it."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from maskwright.core.errors import RecipeError
from maskwright.evaluation.metrics import (
    DEFAULT_METRICS,
    METRICS,
    accuracy,
    answer_f1,
    entities,
    entity_counts,
    exact_match,
    f1,
    macro_f1,
    matthews_correlation,
    mean_absolute_error,
    metrics_of,
    normalise_answer,
    note_undefined,
    pearson,
    spearman,
)


def drawn_pairs(num_classes: int):
    """Return a strategy for predictions and targets."""
    label = st.integers(0, num_classes - 1)
    pairs = st.lists(st.tuples(label, label), min_size=1, max_size=30)
    return pairs.map(lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True)))


@given(drawn_pairs(2))
def test_two_classes_as_scikit_learn_counts_them(pair):
    prediction, target = pair
    assert accuracy(prediction, target) == pytest.approx(sk.accuracy_score(target, prediction))
    assert f1(prediction, target) == pytest.approx(sk.f1_score(target, prediction, zero_division=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = sk.matthews_corrcoef(target, prediction)
    assert matthews_correlation(prediction, target) == pytest.approx(expected)


@given(drawn_pairs(5))
def test_many_classes_as_scikit_learn_counts_them(pair):
    prediction, target = pair
    assert macro_f1(prediction, target) == pytest.approx(
        sk.f1_score(target, prediction, average="macro", zero_division=0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = sk.matthews_corrcoef(target, prediction)
    assert matthews_correlation(prediction, target) == pytest.approx(expected)


def test_f1_and_matthews_by_hand():
    prediction, target = np.array([1, 1, 1, 0, 0, 0]), np.array([1, 1, 0, 1, 0, 0])
    assert f1(prediction, target) == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert matthews_correlation(prediction, target) == pytest.approx((2 * 2 - 1 * 1) / np.sqrt(3 * 3 * 3 * 3))


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(-5, 5)), min_size=2, max_size=40))
def test_correlations_as_scipy_computes_them(rows):
    prediction, target = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    if np.ptp(prediction) < 1e-3 or np.ptp(target) < 1e-3:
        return
    assert pearson(prediction, target) == pytest.approx(stats.pearsonr(prediction, target).statistic, abs=1e-6)
    assert spearman(prediction, target) == pytest.approx(stats.spearmanr(prediction, target).statistic, abs=1e-9)
    assert mean_absolute_error(prediction, target) == pytest.approx(sk.mean_absolute_error(target, prediction))


def test_what_is_undefined_is_zero_and_said():
    same, mixed = np.zeros(4, dtype=np.int64), np.array([0, 1, 0, 1])
    assert matthews_correlation(same, mixed) == matthews_correlation(mixed, same) == 0
    assert f1(same, same) == 0
    assert pearson(np.full(3, 0.1), np.arange(3.0)) == spearman(np.arange(3.0), np.ones(3)) == 0
    assert "the model predicts the same" in note_undefined(same, mixed)[0]
    assert "the same target" in note_undefined(mixed, same)[0]
    assert note_undefined(mixed, mixed) == []


def chunks(tags: list[str]) -> set[tuple[str, int, int]]:
    """Return entities by the rules of conlleval, written as it is: by looking at neighbours."""
    found, begin = set(), None
    for place in range(len(tags) + 1):
        before = tags[place - 1] if place else "O"
        now = tags[place] if place < len(tags) else "O"
        ends = before != "O" and (now == "O" or now[0] == "B" or now[2:] != before[2:])
        begins = now != "O" and (before == "O" or now[0] == "B" or now[2:] != before[2:])
        if ends:
            found.add((before[2:], begin, place))
        if begins:
            begin = place
    return found


@given(st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]), max_size=12))
def test_entities_are_those_of_conlleval(tags):
    assert entities(tags) == chunks(tags)


def test_an_entity_is_right_as_a_whole_only():
    true = ["B-PER", "I-PER", "O", "B-LOC"]
    assert entity_counts(["B-PER", "O", "O", "B-LOC"], true) == (1, 2, 2)
    score = METRICS["token_classification"]["entity_f1"]
    columns = {
        "num_right_entities": np.array([1, 0]),
        "num_predicted_entities": np.array([2, 0]),
        "num_true_entities": np.array([2, 1]),
    }
    assert score(columns) == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))


def test_answers_are_compared_as_squad_does():
    assert normalise_answer(" The  Cat's, an owl! ") == "cats owl"
    assert exact_match("the Panthers.", ["Broncos", "Panthers"]) == 1
    assert exact_match("Panther", ["Panthers"]) == 0
    assert answer_f1("the big red dog", ["red dog", "cat"]) == pytest.approx(2 * (2 / 3) * 1 / (2 / 3 + 1))
    assert answer_f1("dog dog", ["dog"]) == pytest.approx(2 * (1 / 2) * 1 / (1 / 2 + 1))
    assert (exact_match("", []), answer_f1("", []), answer_f1("dog", []), exact_match("dog", [])) == (1, 1, 0, 0)


def test_metrics_are_found_by_name():
    assert list(metrics_of("regression", [])) == list(DEFAULT_METRICS["regression"])
    assert list(metrics_of("classification", ["f1", "accuracy"])) == ["f1", "accuracy"]
    with pytest.raises(RecipeError, match="did you mean 'matthews_correlation'"):
        metrics_of("classification", ["mathews_correlation"])
    columns = {"prediction": np.array([0, 1]), "target": np.array([0, 0])}
    assert METRICS["classification"]["accuracy"](columns) == 0.5
