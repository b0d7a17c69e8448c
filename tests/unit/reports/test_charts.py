"""What charts make of numbers."""

import numpy as np

from maskwright.reports.charts import MAX_POINTS, series, smooth


def test_smoothing_keeps_a_straight_line_and_a_constant_as_they_are():
    line = np.linspace(3.0, 1.0, 401)
    np.testing.assert_allclose(smooth(line), line)
    np.testing.assert_allclose(smooth(np.full(97, 2.5)), 2.5)
    assert len(smooth(np.ones(1))) == 1


def test_long_series_are_averaged_in_bins_and_keep_their_mean():
    lines = [{"tokens": index, "seconds": index / 2, "loss": float(index % 7)} for index in range(70 * MAX_POINTS)]
    tokens, seconds, values = series(lines, "loss")
    assert len(values) == MAX_POINTS
    np.testing.assert_allclose(values.mean(), 3.0)
    np.testing.assert_allclose(tokens, 2 * seconds)


def test_what_is_missing_or_not_finite_is_left_out_of_a_series():
    lines = [
        {"tokens": 1, "seconds": 1, "loss": 2.0},
        {"tokens": 2, "seconds": 2},
        {"tokens": 3, "seconds": 3, "loss": float("nan")},
        {"tokens": 4, "seconds": 4, "loss": "5"},
        {"tokens": 5, "loss": 1},
    ]
    tokens, _, values = series(lines, "loss")
    assert tokens.tolist() == [1, 5]
    assert values.tolist() == [2.0, 1.0]
