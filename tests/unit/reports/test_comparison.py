"""The page of a comparison: harmless whatever the text, the same bytes for the same record, the right front."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.reports.test_html import PAYLOAD, PAYLOADS, Page

from maskwright.core.records.comparison import (
    ArmDifference,
    ArmRecord,
    ArmRun,
    CurvePoint,
    MeanScore,
    Measure,
    RecipeComparisonRecord,
    comparison_path,
)
from maskwright.reports.comparison.charts import pareto_chart, pareto_front
from maskwright.reports.comparison.page import write_comparison
from maskwright.reports.comparison.tables import scores_table


def made(folder: Path, names: list[str], text: str = "plain", **changes: Any) -> RecipeComparisonRecord:
    """Write a comparison with three runs an arm, and their learning curves; return its record."""
    measures = [
        Measure(name="held_out", title="held_out", metric="cross_entropy", is_lower_better=True),
        Measure(name="blimp", title=text, metric="accuracy", is_lower_better=False),
    ]
    arms = []
    for place, name in enumerate(names):
        runs = []
        for seed in (1, 2, 3):
            curve = [
                CurvePoint(tokens=1000 * step, flops=1e11 * step, seconds=2.0 * step, cross_entropy=5 - step / 10)
                for step in (1, 2, 3)
            ]
            scores = {"held_out": 4.0 + place / 10 + seed / 100, "blimp": 0.6 + place / 50 + seed / 1000}
            runs.append(
                ArmRun(
                    seed=seed,
                    folder=f"runs/{place}-seed{seed}",
                    num_steps=3,
                    num_tokens=3000,
                    num_parameters=22584,
                    flops=1e12 + place * 1e11,
                    seconds=6.0 + place + seed / 10,
                    kwh=0.002,
                    scores=scores,
                    machine=text,
                    curve=curve,
                )
            )
        means = {
            "held_out": MeanScore(mean=4.02 + place / 10, deviation=0.01, num_runs=3),
            "blimp": MeanScore(mean=0.602 + place / 50, deviation=0.001, num_runs=3),
        }
        arms.append(ArmRecord(name=name, source=text, settings=[text], differing={text: text}, runs=runs, scores=means))
    rows = [
        ArmDifference(
            arm=name, measure="blimp", difference=0.02, interval=(0.01, 0.03), p_items=0.01, p_seeds=p_seeds,
            p_corrected=0.02, num_items=100, num_seeds=3, is_paired=True, verdict="better",
        )
        for name, p_seeds in zip(names[1:], (0.01, None), strict=False)
    ]  # fmt: skip
    values: dict[str, Any] = {
        "title": text, "command": text, "baseline": names[0], "budget": text, "corpus": text, "corpus_sha256": "0",
        "evaluation_seed": 1, "arms": arms, "measures": measures, "differences": rows, "num_resamples": 1000,
        "notes": [text], "environment": {text: text},
    }  # fmt: skip
    record = RecipeComparisonRecord(**(values | changes))
    record.write(comparison_path(folder))
    return record


def test_hostile_text_stays_text(tmp_path):
    made(tmp_path, [f"{PAYLOAD} {number}" for number in range(3)], PAYLOAD)
    text = write_comparison(tmp_path).read_text()
    page = Page(text)
    assert not {"script", "iframe", "object", "embed", "img", "link", "form", "base", "foreignobject", "a"} & set(
        page.tags
    )
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "href", "xlink:href", "action", "srcdoc"):
            assert re.match(r"#|$", value), (tag, name, value)
    assert sum(PAYLOADS[0] in piece for piece in page.text) >= 12
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def test_the_page_shows_scores_costs_evidence_and_curves(tmp_path):
    made(tmp_path, ["first", "second", "third"], "plain")
    text = write_comparison(tmp_path).read_text()
    words = " ".join(" ".join(Page(text).text).split())
    for expected in (
        *("first (baseline)", "4.020 ± 0.010", "62.2 ± 0.1 ▲", "64.2 ± 0.1 △", "by the evidence over items alone"),
        *("1 TFLOP", "2 Wh", "Against first", "1.0 to 3.0", "Quality over cost", "Learning curves", "Every run"),
        *("As good as first in the end", "100 ± 0 %"),
    ):
        assert expected in words, expected
    charts = re.findall(r"<svg .*?</svg>", text, flags=re.DOTALL)
    assert len(charts) == 2 * 2 + 2
    ids = re.findall(r' id="([^"]*)"', "".join(charts))
    assert len(ids) == len(set(ids))
    for chart in charts:
        assert ElementTree.fromstring(chart).attrib["aria-label"]


def test_no_two_ticks_of_a_narrow_axis_read_the_same(tmp_path):
    record = made(tmp_path, ["first", "second"])
    chart = pareto_chart(record, record.measures[1], "seconds")
    assert chart is not None
    ticks = re.findall(r">([\d.]+) %<", chart)
    assert len(ticks) > 3
    assert len(set(ticks)) == len(ticks)


def test_equal_records_give_equal_bytes(tmp_path):
    made(tmp_path, ["first", "second"])
    first = write_comparison(tmp_path).read_bytes()
    assert write_comparison(tmp_path).read_bytes() == first


def test_failed_runs_and_runs_without_a_curve_are_drawn(tmp_path):
    record = made(tmp_path, ["first", "second"])
    failed = record.arms[1].model_copy(
        update={"runs": [ArmRun(seed=1, folder="runs/gone", problem="killed by SIGKILL")], "scores": {}}
    )
    record = record.model_copy(update={"arms": [record.arms[0], failed], "differences": []})
    record.write(comparison_path(tmp_path))
    words = " ".join(" ".join(Page(write_comparison(tmp_path).read_text()).text).split())
    assert "1 of 4 runs failed" in words
    assert "0 of 1; 1 failed" in words
    assert "killed by SIGKILL" in words
    assert scores_table(record).rows[1][2:] == ["–", "–"]


@pytest.mark.parametrize("is_lower_better", [True, False])
@given(points=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_the_front_is_what_no_other_beats(is_lower_better: bool, points: list[tuple[int, int]]):
    costs, scores = [float(cost) for cost, _ in points], [float(score) for _, score in points]
    sign = 1 if is_lower_better else -1

    def is_beaten(index: int) -> bool:
        cost, score = costs[index], sign * scores[index]
        return any(
            other <= cost and sign * value <= score and (other < cost or sign * value < score)
            for other, value in zip(costs, scores, strict=True)
        )

    front = pareto_front(costs, scores, is_lower_better)
    expected = {points[index] for index in range(len(points)) if not is_beaten(index)}
    assert {points[index] for index in front} == expected
    assert len(front) == len(expected)
    assert [costs[index] for index in front] == sorted(costs[index] for index in front)
