"""Scores as tables: what is missing is said, and figures are those of an independent computation."""

from collections.abc import Callable
from statistics import mean, stdev
from typing import Any

import pytest

from maskwright.core.records.evaluation import TableRecord
from maskwright.reports.tables import (
    HOW_TO_READ,
    NOTHING,
    comparison_table,
    detail_table,
    format_interval,
    format_p,
    format_value,
    is_in_points,
    score_tables,
)

Records = dict[str, Callable[..., Any]]

SCORES = [0.462, 0.508, 0.481, 0.489]

GLUE = TableRecord(name="glue", title="GLUE", tasks={"cola": "CoLA", "rte": "RTE", "wnli": "WNLI"})


@pytest.mark.parametrize(
    ("metric", "value", "deviation", "text"),
    [
        ("accuracy", 0.6831, 0.006, "68.3 ± 0.6"),
        ("matthews_correlation", -0.5384, 0.314, "−53.8 ± 31.4"),
        ("entity_f1", 1.0, None, "100.0"),
        ("exact_match", 0.5, None, "50.0"),
        ("mean_absolute_error", 1.23456, 0.01, "1.235 ± 0.010"),
        ("cross_entropy", 3.0214, None, "3.021"),
        ("num_ties", 12345, None, "12,345"),
        ("pearson", float("nan"), None, "not defined"),
    ],
)
def test_scores_are_shown_as_papers_do(metric: str, value: float, deviation: float | None, text: str):
    assert format_value(metric, value, deviation) == text


def test_sums_are_no_points():
    assert not is_in_points("sum_top1_accuracy")
    assert format_interval("accuracy", None) == NOTHING
    assert format_interval("matthews_correlation", (-0.1, 0.2)) == "−10.0 to 20.0"
    assert [format_p(p) for p in (0.0004, 0.0123, 1.0)] == ["< 0.001", "0.012", "1"]


def test_a_suite_is_a_table_in_its_order_with_what_is_missing(records: Records):
    made = [
        records["fine_tuned"]("rte", "RTE", "accuracy", [0.6, 0.72], GLUE, notes=["A note."]),
        records["fine_tuned"]("cola", "CoLA", "matthews_correlation", SCORES, GLUE, notes=["A note."]),
    ]
    (table,) = score_tables(made)
    assert [row[0] for row in table.rows] == ["CoLA", "RTE", "WNLI"]
    assert table.rows[0][2] == f"{100 * mean(SCORES):.1f} ± {100 * stdev(SCORES):.1f}"
    assert table.rows[0][4:] == ["4", "0.0 (majority)"]
    assert table.rows[2][1:] == [NOTHING] * 5
    assert table.total is not None
    assert table.total[0] == "average of 2 of 3"
    assert table.total[2] == f"{50 * (mean(SCORES) + 0.66):.1f}"
    assert table.notes == [HOW_TO_READ, "Not scored: WNLI.", "CoLA, RTE: A note."]
    assert all(len(row) == len(table.columns) for row in table.all_rows)
    assert "ddof 1" in HOW_TO_READ


def test_a_whole_suite_has_a_plain_average_and_other_units_have_none(records: Records):
    both = TableRecord(name="two", title="Two", tasks={"a": "A", "b": "B"})
    a = records["fine_tuned"]("a", "A", "accuracy", [0.5], both)
    b = records["fine_tuned"]("b", "B", "accuracy", [0.7], both)
    error = records["fine_tuned"]("b", "B", "mean_absolute_error", [0.7], both)
    assert score_tables([a, b])[0].total == ["average", "", "60.0", "", "", ""]
    assert score_tables([a, error])[0].total is None


def test_a_task_scored_alone_later_keeps_its_row(records: Records):
    made = [
        records["fine_tuned"]("rte", "RTE", "accuracy", [0.6], GLUE),
        records["fine_tuned"]("cola", "CoLA", "accuracy", [0.6], None),
        records["fine_tuned"]("own", "own", "accuracy", [0.6], None),
    ]
    glue, other = score_tables(made)
    assert glue.rows[0][2] == "60.0"
    assert (other.title, [row[0] for row in other.rows], other.total) == ("Other tasks", ["own"], None)


def test_minimal_pairs_are_shown_by_phenomenon(records: Records):
    blimp = records["blimp"]()
    (table,) = score_tables([blimp])
    assert table.columns == ["part", "accuracy", "95 % interval", "pairs", "ties"]
    assert table.rows[0] == ["anaphor agreement", "81.0", "79.5 to 82.5", "2,000", "3"]
    assert len(table.rows) == 6, "the paradigm is a part of a part"
    assert table.total == ["all", "65.0", "64.3 to 65.7", "12,000", "18"]
    assert "24,000 sentences" in table.notes[1]
    suite = TableRecord(name="babylm", title="BabyLM", tasks={"blimp": "BLiMP"})
    in_suite, parts = score_tables([records["blimp"](table=suite)])
    assert in_suite.rows[0][:3] == ["BLiMP", "accuracy", "65.0"]
    assert "24,000 sentences" in in_suite.notes[-1]
    assert len(parts.notes) == 1, "the note stands in the suite's table already"


def test_parts_of_a_labelled_set_have_no_intervals(records: Records):
    groups = {"fiction": {"accuracy": 0.7, "f1": 0.6}, "travel": {"accuracy": 0.8, "f1": 0.6}}
    made = records["fine_tuned"]("mnli", "MNLI", "accuracy", [0.75], None, groups=groups)
    alone, parts = score_tables([made])
    assert alone.rows[0][0] == "MNLI"
    assert parts.columns == ["part", "accuracy"]
    assert parts.rows == [["fiction", "70.0"], ["travel", "80.0"]]


def test_the_details_have_every_metric_of_every_seed(records: Records):
    made = records["fine_tuned"]("cola", "CoLA", "accuracy", [0.5, 0.6], None)
    assert detail_table([made]).rows == [["CoLA", "accuracy", "55.0 ± 7.1", "50.0 (12), 60.0 (13)"]]


def test_two_models_side_by_side(records: Records):
    table = comparison_table(records["comparison"]())
    assert table.columns[2:4] == ["small", "runs/other"]
    assert table.rows[0] == [
        *("RTE", "accuracy", "61.0 ± 1.2", "56.0 ± 2.0", "5.0", "2.0 to 8.0", "< 0.001", "4", "small is better")
    ]
    assert table.rows[1][-1] == "no evidence of a difference"
