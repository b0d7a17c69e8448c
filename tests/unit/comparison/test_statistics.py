"""Arms of several runs: which seeds are compared, in which direction a difference is better, one correction for all."""

import numpy as np
import pytest
from scipy import stats

from maskwright.comparison.statistics import _average_row, common, corrected, mean_score
from maskwright.core.records.comparison import ArmDifference
from maskwright.evaluation.significance import holm


def row(measure: str, difference: float, p_items: float | None, p_seeds: float | None) -> ArmDifference:
    return ArmDifference(
        arm="arm", measure=measure, difference=difference, interval=None, p_items=p_items, p_seeds=p_seeds,
        p_corrected=None, num_items=None, num_seeds=3, is_paired=True, verdict="no test",
    )  # fmt: skip


def test_one_correction_is_over_all_rows_that_are_tested():
    rows = [
        row("nats", -0.1, 0.001, 0.004),
        row("nats", 0.1, 0.002, None),
        row("accuracy", 0.1, 0.001, 0.012),
        row("accuracy", -0.1, 0.2, 0.001),
        row("average", 0.1, None, None),
    ]
    found = corrected(rows, {"nats": True, "accuracy": False, "average": False})
    expected = holm([0.004, 0.002, 0.012, 0.2])
    assert [each.p_corrected for each in found] == [*expected, None]
    assert [each.verdict for each in found] == ["better", "worse", "better", "no evidence of a difference", "no test"]


def test_only_seeds_that_both_have_are_compared():
    ours, other = {1: 0.1, 2: 0.2, 3: 0.3}, {2: 0.5, 3: 0.6, 4: 0.7}
    assert common(ours, other) == ({2: 0.2, 3: 0.3}, {2: 0.5, 3: 0.6}, True)
    assert common({1: 0.1}, {2: 0.2}) == ({1: 0.1}, {2: 0.2}, False)


def test_averages_are_tested_over_seeds():
    ours, other = {1: 0.61, 2: 0.64, 3: 0.66}, {1: 0.60, 2: 0.61, 3: 0.64}
    found = _average_row("arm", ours, other, True)
    assert found.p_seeds == pytest.approx(stats.ttest_rel(list(ours.values()), list(other.values())).pvalue)
    assert found.difference == pytest.approx(0.02)


def test_deviations_are_of_samples():
    found = mean_score([1.0, 2.0, 4.0])
    assert (found.mean, found.num_runs) == (pytest.approx(7 / 3), 3)
    assert found.deviation == pytest.approx(np.std([1, 2, 4], ddof=1))
    assert mean_score([1.0]).deviation is None
