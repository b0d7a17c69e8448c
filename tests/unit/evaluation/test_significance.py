"""Intervals and p-values against independent computations, and by simulation: how often do they cry wolf?"""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from maskwright.core.errors import EvaluationError
from maskwright.core.randomness import numpy_generator
from maskwright.evaluation.items import Items
from maskwright.evaluation.significance import (
    align_items,
    bootstrap_interval,
    draw_resamples,
    estimate_difference,
    holm,
    p_over_seeds,
    percentiles,
    resampled_means,
    two_sided_p,
)


def items_of(credit: np.ndarray, num_strata: int = 1, **columns: np.ndarray) -> Items:
    """N items in equal strata."""
    ids = np.array([f"item-{index}" for index in range(len(credit))])
    strata = np.arange(len(credit)) * num_strata // len(credit)
    return Items(ids, {"credit": credit, **columns}, strata, tuple(f"part {index}" for index in range(num_strata)))


def mean_credit(items: Items) -> float:
    return float(items.columns["credit"].mean())


def tosses(purpose: str, probability: float, size: int | tuple[int, ...], counter: int = 0) -> np.ndarray:
    return (numpy_generator(5, purpose, counter).random(size) < probability).astype(np.float64)


def test_an_interval_is_that_of_scipy():
    credit = tosses("interval", 0.7, 500)
    ours = bootstrap_interval(mean_credit, [items_of(credit)], seed=1, num_resamples=5000)
    theirs = stats.bootstrap(
        (credit,), np.mean, method="percentile", n_resamples=5000, vectorized=True, rng=numpy_generator(2, "scipy")
    ).confidence_interval
    np.testing.assert_allclose(ours, theirs, atol=0.003)


def test_an_interval_of_f1_is_that_of_a_plain_loop():
    target, prediction = tosses("target", 0.3, 300), tosses("prediction", 0.4, 300)

    def f1(items: Items) -> float:
        right = (items.columns["target"] * items.columns["prediction"]).sum()
        return float(2 * right / (items.columns["target"].sum() + items.columns["prediction"].sum()))

    items = items_of(target, target=target, prediction=prediction)
    draws = numpy_generator(3, "plain loop").integers(300, size=(600, 300))
    theirs = np.quantile([f1_score(target[draw], prediction[draw]) for draw in draws], [0.025, 0.975])
    np.testing.assert_allclose(bootstrap_interval(f1, [items], seed=1, num_resamples=2000), theirs, atol=0.03)


def test_resamples_keep_the_strata_and_draw_the_same_items_for_all_runs():
    places = np.array([0, 1, 1, 2, 2, 2])
    runs = [Items(np.arange(6), {"place": places, "number": np.arange(6) + k}, places, ("a", "b", "c")) for k in (0, 6)]
    seen = set()
    for one, other in draw_resamples(align_items(runs), seed=1, num_resamples=50):
        assert one.columns["place"].tolist() == places.tolist() == one.stratum_index.tolist()
        np.testing.assert_array_equal(one.columns["number"] + 6, other.columns["number"])
        seen |= set(one.columns["number"].tolist())
    assert seen == set(range(6))


def test_strata_make_an_interval_narrower():
    credit = np.repeat([0.0, 1.0], 100)
    assert bootstrap_interval(mean_credit, [items_of(credit, num_strata=2)], seed=1) == (0.5, 0.5)
    low, high = bootstrap_interval(mean_credit, [items_of(credit)], seed=1)
    assert high - low > 0.1


def test_an_interval_is_the_same_for_items_in_another_order():
    items = items_of(tosses("order", 0.6, 90), num_strata=3)
    backwards = items.take(np.arange(len(items))[::-1])
    renamed = Items(backwards.ids, backwards.columns, 2 - backwards.stratum_index, items.strata[::-1])
    assert bootstrap_interval(mean_credit, [items], seed=1) == bootstrap_interval(mean_credit, [renamed], seed=1)
    assert bootstrap_interval(mean_credit, [items], seed=1) != bootstrap_interval(mean_credit, [items], seed=2)


def test_three_seeds_widen_the_interval_by_their_spread():
    runs = [items_of(np.full(50, score)) for score in (0.2, 0.5, 0.8)]
    assert bootstrap_interval(mean_credit, runs[:1], seed=1) == pytest.approx((0.2, 0.2))
    assert bootstrap_interval(mean_credit, runs[:2], seed=1) == pytest.approx((0.35, 0.35))
    low, high = bootstrap_interval(mean_credit, runs, seed=1)
    assert low < 0.35 < 0.65 < high


def test_resampled_seeds_have_the_variance_of_the_mean_over_seeds():
    scores = numpy_generator(5, "seeds").normal(size=4)
    means = resampled_means(np.repeat(scores[:, None], 200_000, axis=1), 1, "test")
    assert means.mean() == pytest.approx(scores.mean(), abs=0.01)
    assert means.var() == pytest.approx(scores.var(ddof=1) / 4, rel=0.02)


def test_the_p_value_over_items_is_that_of_a_permutation_test():
    ours, other = tosses("ours", 0.75, 400), tosses("other", 0.70, 400)
    found = estimate_difference(mean_credit, {1: items_of(ours)}, {1: items_of(other)}, seed=1, num_resamples=20_000)
    signs = numpy_generator(5, "signs").choice([-1.0, 1.0], size=(20_000, 400))
    permuted = np.abs((signs * (ours - other)).mean(axis=1)) >= abs((ours - other).mean()) - 1e-12
    assert found.value == pytest.approx((ours - other).mean())
    assert found.p_items == pytest.approx(permuted.mean(), abs=0.02)
    scipys = stats.permutation_test(
        (ours, other), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=2000,
        rng=numpy_generator(5, "scipy"),
    )  # fmt: skip
    assert found.p_items == pytest.approx(scipys.pvalue, abs=0.05)


def false_alarms(make: Callable[[int], tuple[dict[int, Items], dict[int, Items]]], num: int) -> dict[str, float]:
    found = [estimate_difference(mean_credit, *make(trial), seed=trial, num_resamples=300) for trial in range(num)]
    return {
        "items": np.mean([each.p_items <= 0.05 for each in found]),
        "both": np.mean([each.p <= 0.05 for each in found]),
        "interval": np.mean([not each.interval[0] <= 0 <= each.interval[1] for each in found]),
    }


def test_equal_models_are_called_different_one_time_in_twenty():
    """Two models that answer the same hard questions well and differ by chance: paired, 5 % of 400 (spread 1.1 %)."""

    def make(trial: int) -> tuple[dict[int, Items], dict[int, Items]]:
        difficulty = numpy_generator(6, "difficulty", trial).random(400)
        answers = numpy_generator(6, "answers", trial).random((2, 400)) + 0.5 * difficulty < 0.9
        return {1: items_of(answers[0] * 1.0)}, {1: items_of(answers[1] * 1.0)}

    assert 0.02 <= false_alarms(make, 400)["items"] <= 0.08


def test_a_spread_over_seeds_is_no_difference_of_models():
    """Over items alone, seeds that end differently would look like skill most of the time."""

    def make(trial: int) -> tuple[dict[int, Items], dict[int, Items]]:
        skills = numpy_generator(7, "skills", trial).normal(0.7, 0.05, size=8)
        answers = numpy_generator(7, "answers", trial).random((8, 1000)) < skills[:, None]
        runs = [items_of(row * 1.0) for row in answers]
        return dict(enumerate(runs[:4])), dict(enumerate(runs[4:]))

    rates = false_alarms(make, 60)
    assert rates["items"] > 0.25
    assert rates["both"] <= 0.12


def test_a_real_difference_is_found():
    def make(trial: int) -> tuple[dict[int, Items], dict[int, Items]]:
        answers = numpy_generator(8, "answers", trial).random((8, 1000))
        runs = [items_of((row < (0.75 if number < 4 else 0.68)) * 1.0) for number, row in enumerate(answers)]
        return dict(enumerate(runs[:4])), dict(enumerate(runs[4:], start=0))

    assert false_alarms(make, 30)["both"] >= 0.9


def test_items_may_come_in_any_order_but_must_be_the_same():
    items = items_of(tosses("same", 0.5, 60), num_strata=2)
    shuffled = items.take(numpy_generator(5, "shuffle").permutation(60))
    found = estimate_difference(mean_credit, {1: items}, {1: shuffled}, seed=1, num_resamples=100)
    assert (found.value, found.interval, found.p_items) == (0, (0, 0), 1)
    with pytest.raises(EvaluationError, match="item item-0 was scored by one and not by the other, as were 1 more"):
        estimate_difference(mean_credit, {1: items}, {1: items.take(np.arange(2, 60))}, seed=1, num_resamples=100)
    with pytest.raises(EvaluationError, match="share their name"):
        align_items([items, items.take(np.array([0, *range(60)]))])


@pytest.mark.parametrize("is_paired", [True, False])
def test_the_p_value_over_seeds_is_that_of_a_t_test(is_paired: bool):
    ours, other = np.array([0.71, 0.74, 0.69, 0.72]), np.array([0.66, 0.70, 0.68, 0.67])
    gaps = ours - other
    if is_paired:
        t, freedom = gaps.mean() / (gaps.std(ddof=1) / 2), 3
    else:
        one, two = ours.var(ddof=1) / 4, other.var(ddof=1) / 4
        t, freedom = gaps.mean() / np.sqrt(one + two), (one + two) ** 2 / ((one**2 + two**2) / 3)
    assert p_over_seeds(ours, other, is_paired) == pytest.approx(2 * stats.t.sf(t, freedom))


def test_seeds_that_cannot_tell_say_nothing():
    assert p_over_seeds(np.array([0.1, 0.2]), np.array([0.3, 0.4]), is_paired=True) is None
    assert p_over_seeds(np.array([0.5, 0.5, 0.5]), np.array([0.4, 0.4, 0.4]), is_paired=True) is None
    assert p_over_seeds(np.array([0.5, 0.5, 0.5]), np.array([0.4, 0.4, 0.4]), is_paired=False) is None


def test_an_exact_test_over_four_seeds_could_never_find_anything():
    """Why it is a t-test: of 16 signs, the most extreme two are one in eight."""
    gaps = np.array([0.1, 0.2, 0.3, 0.4])
    signs = np.array(list(itertools.product([-1, 1], repeat=4)))
    assert (np.abs((signs * gaps).mean(axis=1)) >= gaps.mean() - 1e-12).mean() == 0.125


def test_resamples_without_a_score_are_left_out():
    values = np.array([np.nan, *np.linspace(0, 1, 101)])
    assert percentiles(values) == pytest.approx((0.025, 0.975))
    assert np.isnan(percentiles(np.array([np.nan]))).all()
    assert two_sided_p(np.array([np.nan, 1, 1, 1])) == 0.5


def test_holm_is_as_published():
    """Holm 1979 by hand: sorted p times how many are left, never falling."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []
