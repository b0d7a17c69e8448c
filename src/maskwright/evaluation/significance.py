"""How sure a score is, and a difference of two: bootstrap over items, tests over seeds, Holm's correction.

Items are resampled with replacement within their strata, so every resample has the composition of the data set.

Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 13 and 16; Berg-Kirkpatrick et al. 2012, An
Empirical Investigation of Statistical Significance in NLP; Dror et al. 2018, The Hitchhiker's Guide to Testing
Statistical Significance in NLP; Bouthillier et al. 2021, Accounting for Variance in Machine Learning Benchmarks,
arXiv:2103.03098; Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
"""

from collections.abc import Iterator

import numpy as np

from maskwright.core.randomness import numpy_generator
from maskwright.evaluation.items import Items
from maskwright.evaluation.tasks.base import Task

CONFIDENCE = 0.95


def interval(task: Task, items: Items, metric: str, seed: int, num_resamples: int = 1000) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of a score over the items of one seed.

    Args:
        task: whose `scores` are wanted.
        items: at least one.
        metric: one of the task's scores.
        seed: of the resampling.
        num_resamples: how often the items are drawn anew.
    """
    scores = [task.scores(resample)[metric] for resample in resamples(items, seed, num_resamples)]
    return percentiles(np.array(scores))


def percentiles(values_R: np.ndarray) -> tuple[float, float]:
    """Return the middle 95 % of R resampled values.

    Resamples without a value (NaN: a correlation where all items are equal) are left out.
    """
    low, high = np.nanquantile(values_R, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def resamples(items: Items, seed: int, num_resamples: int) -> Iterator[Items]:
    """Yield items drawn with replacement within their strata; equal seeds and strata give equal draws."""
    order = np.argsort(items.stratum_index, kind="stable")
    strata_N = items.stratum_index[order]
    columns = {name: column[order] for name, column in items.columns.items()}
    sizes = np.bincount(strata_N, minlength=len(items.strata))
    starts_N = (np.cumsum(sizes) - sizes)[strata_N]
    sizes_N = sizes[strata_N]
    generator = numpy_generator(seed, "bootstrap")
    for _ in range(num_resamples):
        index = starts_N + (generator.random(len(items)) * sizes_N).astype(np.int64)
        # The strata stay in place, and nobody reads the names of resampled items: both save time.
        yield Items(index, {name: column[index] for name, column in columns.items()}, strata_N, items.strata)
