"""How soon an arm is as good as the baseline in the end, from learning curves."""

import math
from pathlib import Path

import pytest
from tests.unit.reports.test_comparison import made

from maskwright.core.records.comparison import CurvePoint, RecipeComparisonRecord
from maskwright.reports.comparison.cost_to_quality import cost_to_quality_table, cost_to_reach, format_shares
from maskwright.reports.gather import has_number


def curve(*values: float, seconds: float = 10.0) -> list[CurvePoint]:
    """A probe every 100 tokens."""
    return [
        CurvePoint(tokens=100 * place, flops=1e6 * place, seconds=seconds * place, cross_entropy=value)
        for place, value in enumerate(values, start=1)
    ]


@pytest.mark.parametrize(
    ("wanted", "tokens"),
    [
        (5.0, 300),  # at a probe
        (5.5, 250),  # half of the way between two
        (6.5, 150),
        (8.0, 100),  # before the first probe: no earlier than that is known
        (4.9, None),
    ],
)
def test_lines_are_drawn_between_probes(wanted: float, tokens: float | None):
    assert cost_to_reach(curve(7.0, 6.0, 5.0, 5.2), wanted, "tokens") == tokens


def changed(record: RecipeComparisonRecord, *curves: list[list[CurvePoint]]) -> RecipeComparisonRecord:
    arms = [
        arm.model_copy(
            update={"runs": [run.model_copy(update={"curve": c}) for run, c in zip(arm.runs, found, strict=True)]}
        )
        for arm, found in zip(record.arms, curves, strict=True)
    ]
    return record.model_copy(update={"arms": arms})


def test_each_seed_is_measured_by_the_baseline_with_the_same_seed(tmp_path: Path):
    record = changed(
        made(tmp_path, ["slow", "fast", "worse"]),
        [curve(7.0, 6.0, 5.0, 4.0), curve(7.0, 6.0, 5.0, 5.0), curve(7.0, 6.0, 5.0, 4.0)],
        [curve(6.0, 4.0, 3.0, 3.0, seconds=5.0), curve(7.0, 6.0, 5.0, 4.0), curve(6.0, 5.0, 4.0, 3.0)],
        [curve(7.0, 6.0, 5.0, 4.5), curve(7.0, 6.0, 5.0, 4.5), curve(7.0, 6.5, 6.0, 5.5)],
    )
    table = cost_to_quality_table(record)
    assert table is not None
    assert table.columns == ["arm", "tokens", "FLOPs", "time"]
    assert list(map(list, table.rows)) == [
        ["fast", "67 ± 14 %", "67 ± 14 %", "58 ± 29 %"],  # 200, 300 and 300 of 400; the first at half the time a token
        ["worse", *["75 % (1 of 3 seeds)"] * 3],
    ]


def test_there_is_no_table_without_curves_of_equal_seeds(tmp_path: Path):
    record = made(tmp_path, ["first", "second"])
    assert cost_to_quality_table(changed(record, [[], [], []], [curve(7.0, 6.0)] * 3)) is None
    other = record.arms[1].model_copy(
        update={"runs": [run.model_copy(update={"seed": run.seed + 10}) for run in record.arms[1].runs]}
    )
    assert cost_to_quality_table(record.model_copy(update={"arms": [record.arms[0], other]})) is None


def test_shares_in_words():
    assert format_shares([]) == "–"
    assert format_shares([None, None]) == "not reached"
    assert format_shares([0.781]) == "78 %"
    assert format_shares([0.7, 0.9, None]) == "80 ± 14 % (2 of 3 seeds)"


def test_damaged_lines_of_a_log_are_no_point_of_a_curve():
    assert has_number({"loss": 2}, "loss")
    for value in (None, "2", math.nan, math.inf):
        assert not has_number({"loss": value}, "loss")
    assert not has_number({}, "loss")
