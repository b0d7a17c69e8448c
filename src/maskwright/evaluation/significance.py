"""Uncertainty of a score, and of the difference of two: bootstrap over items and seeds, tests, Holm's correction.

Items are resampled with replacement within their strata, so every resample has the composition of the data set. With
three seeds or more the seeds are resampled too: n - 1 of n are drawn, which makes the variance of their mean unbiased.

Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap (percentile intervals: chapter 13); Berg-Kirkpatrick
et al. 2012, An Empirical Investigation of Statistical Significance in NLP (one draw of items for both models); Dror et
al. 2018, The Hitchhiker's Guide to Testing Statistical Significance in NLP; Bouthillier et al. 2021,
arXiv:2103.03098 (seeds are a source of variance besides the items); Rao and Wu 1988, Resampling Inference with Complex
Survey Data (n - 1 of n); Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from maskwright.core.errors import EvaluationError
from maskwright.core.log import progress
from maskwright.core.randomness import numpy_generator
from maskwright.evaluation.items import Items

CONFIDENCE = 0.95

FEWEST_SEEDS = 3
"""With fewer, a spread over seeds says next to nothing."""

Score = Callable[[Items], float]
"""The score of some items: a task's, by one metric."""


@dataclass(frozen=True)
class Difference:
    """The difference of two models on one task, and its uncertainty.

    Attributes:
        value: mean score of the first over its seeds - that of the second.
        interval: 95 % of the difference, over items and, with enough seeds of both, over seeds.
        p_items: two-sided, over items, the seeds as they are.
        p_seeds: two-sided, over seeds, the items as they are; None if the seeds can't tell.
    """

    value: float
    interval: tuple[float, float]
    p_items: float
    p_seeds: float | None

    @property
    def p(self) -> float:
        """The larger of the two: a difference must hold for other items and for other seeds."""
        return self.p_items if self.p_seeds is None else max(self.p_items, self.p_seeds)


def bootstrap_interval(
    score: Score, runs: Sequence[Items], seed: int, num_resamples: int = 1000
) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of a score, the mean over the seeds.

    Args:
        score: of items.
        runs: the same items, as scored with each seed of the task.
        seed: of the resampling.
        num_resamples: how often items and seeds are drawn again.

    Raises:
        EvaluationError: the seeds have scored different items.
    """
    scores_SR = resampled_scores(score, align_items(runs), seed, num_resamples)
    return percentiles(resampled_means(scores_SR, seed, "interval"))


def estimate_difference(
    score: Score, ours: Mapping[int, Items], other: Mapping[int, Items], seed: int, num_resamples: int
) -> Difference:
    """Compare two models on one task, item by item; also seed by seed if both have the same seeds.

    Args:
        score: of items.
        ours: the items of the first model, by seed of the task.
        other: those of the second.
        seed: of the resampling.
        num_resamples: how often items and seeds are drawn again.

    Raises:
        EvaluationError: the two have not scored the same items.
    """
    names = sorted(ours), sorted(other)
    runs = align_items([*(ours[name] for name in names[0]), *(other[name] for name in names[1])])
    of_runs = np.array([score(run) for run in runs])
    ours_S, other_S = of_runs[: len(ours)], of_runs[len(ours) :]
    resampled = resampled_scores(score, runs, seed, num_resamples)
    ours_SR, other_SR = resampled[: len(ours)], resampled[len(ours) :]
    # Equal seeds mean equal initial heads and data order: such runs are drawn together.
    is_paired = names[0] == names[1]
    if is_paired:
        over_both_R = resampled_means(ours_SR - other_SR, seed, "seeds")
    else:
        over_both_R = resampled_means(ours_SR, seed, "seeds") - resampled_means(other_SR, seed, "other seeds")
    return Difference(
        value=float(ours_S.mean() - other_S.mean()),
        interval=percentiles(over_both_R),
        p_items=two_sided_p(ours_SR.mean(axis=0) - other_SR.mean(axis=0)),
        p_seeds=p_over_seeds(ours_S, other_S, is_paired),
    )


def align_items(runs: Sequence[Items]) -> list[Items]:
    """Return several models' items in one order, by the names of stratum and item, whatever order they came in.

    Raises:
        EvaluationError: they are not the same items; names one that only some have.
    """
    first = runs[0]
    strata = sorted(first.strata)
    stratum_index = np.array([strata.index(name) for name in first.strata])[first.stratum_index]
    order = np.lexsort((first.ids, stratum_index))
    names, stratum_index = first.ids[order], stratum_index[order]
    by_name = np.argsort(names, kind="stable")
    # Where the item with the i-th name in alphabetical order stands.
    in_order = []
    for run in runs:
        _require_same(set(first.ids.tolist()), set(run.ids.tolist()), len(run))
        index = np.empty(len(run), dtype=np.int64)
        index[by_name] = np.argsort(run.ids, kind="stable")
        columns = {name: column[index] for name, column in run.columns.items()}
        in_order.append(Items(names, columns, stratum_index, strata))
    return in_order


def _require_same(names: set[str], others: set[str], num_items: int) -> None:
    """Reject items that differ from the first run's, and names that several items share."""
    if odd := sorted(map(str, names ^ others)):
        raise EvaluationError(
            f"item {odd[0]} was scored by one and not by the other, as were {len(odd) - 1:,} more",
            "the same items for both",
            "evaluate both on the same data with the same settings",
        )
    if len(others) != num_items:
        raise EvaluationError(f"{num_items - len(others):,} items share their name with another", "unique names")


def draw_resamples(runs: Sequence[Items], seed: int, num_resamples: int) -> Iterator[list[Items]]:
    """Yield items drawn with replacement within their strata, the same ones for each run.

    Args:
        runs: aligned.
        seed: equal seeds and strata give equal draws.
        num_resamples: how often.
    """
    places_N, strata = runs[0].stratum_index, runs[0].strata
    sizes = np.bincount(places_N, minlength=len(strata))
    starts_N, sizes_N = (np.cumsum(sizes) - sizes)[places_N], sizes[places_N]
    generator = numpy_generator(seed, "bootstrap")
    for _ in range(num_resamples):
        index = starts_N + (generator.random(len(places_N)) * sizes_N).astype(np.int64)
        # The order of the strata stays. A resampled item is named by its index, because copying the names would take
        # most of the time.
        yield [
            Items(index, {name: column[index] for name, column in run.columns.items()}, places_N, strata)
            for run in runs
        ]


def resampled_scores(score: Score, runs: Sequence[Items], seed: int, num_resamples: int) -> np.ndarray:
    """Return float64 [S, R]: the score of each of S runs on each of R draws of items, the same ones for all."""
    scores_RS = np.empty((num_resamples, len(runs)))
    with progress("Resampling items", num_resamples) as advance:
        for scores_S, drawn in zip(scores_RS, draw_resamples(runs, seed, num_resamples), strict=True):
            scores_S[:] = [score(run) for run in drawn]
            advance(1)
    return scores_RS.T


def resampled_means(scores_SR: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """Return the means [R] over the seeds; over n - 1 of them, drawn with replacement, where there are enough."""
    num_seeds, num_resamples = scores_SR.shape
    if num_seeds < FEWEST_SEEDS:
        return scores_SR.mean(axis=0)
    drawn = numpy_generator(seed, f"bootstrap of {purpose}").integers(num_seeds, size=(num_seeds - 1, num_resamples))
    return scores_SR[drawn, np.arange(num_resamples)].mean(axis=0)


def percentiles(values_R: np.ndarray) -> tuple[float, float]:
    """Return the middle 95 % of R resampled values; resamples in which the score is not defined (NaN) are left out."""
    defined = values_R[~np.isnan(values_R)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def two_sided_p(differences_R: np.ndarray) -> float:
    """Return twice the share of resampled differences with the rarer sign; agrees with the percentile interval.

    One is added to both counts, so that no p-value is nought (Davison and Hinkley 1997, chapter 4).
    """
    defined = differences_R[~np.isnan(differences_R)]
    rarer = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    return min(1.0, 2 * (1 + rarer) / (1 + len(defined)))


def p_over_seeds(ours_S: np.ndarray, other_S: np.ndarray, is_paired: bool) -> float | None:
    """Return the two-sided p-value of a t-test over seeds: paired where the seeds are the same, else Welch's.

    An exact permutation test would need six seeds to reach 5 % at all. None for fewer than three seeds of either, and
    where no seed makes a difference (then there is no spread to judge by).
    """
    if min(len(ours_S), len(other_S)) < FEWEST_SEEDS:
        return None
    spread = np.ptp(ours_S - other_S) if is_paired else max(np.ptp(ours_S), np.ptp(other_S))
    if spread < 1e-12:
        return None
    if is_paired:
        _, p = np.asarray(stats.ttest_rel(ours_S, other_S))
    else:
        _, p = np.asarray(stats.ttest_ind(ours_S, other_S, equal_var=False))
    return float(p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number: the chance of even one false alarm among all stays below each."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
