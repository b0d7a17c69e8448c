"""Scores for the hub: its own library reads back what we wrote, and what people wrote stays."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub._eval_results import parse_eval_result_entries

from maskwright.core.records.run import RunFolder
from maskwright.reports.hub_results import hub_dataset, model_index, write_eval_results
from maskwright.reports.model_card import write_model_card

Records = dict[str, Callable[..., Any]]


def test_the_hub_reads_the_scores_in_both_formats(scored_run: Path):
    card = ModelCard.load(write_model_card(scored_run))
    results = {(result.dataset_name, result.metric_type): result for result in card.data.eval_results}
    cola = results["CoLA", "matthews_correlation"]
    assert (cola.task_type, cola.dataset_type, cola.dataset_config) == ("text-classification", "nyu-mll/glue", "cola")
    assert cola.metric_value == 0.485
    assert cola.metric_name == "matthews correlation, mean of 4 seeds"
    assert results["BLiMP", "accuracy"].task_type == "fill-mask"
    folder = RunFolder(scored_run).model / ".eval_results"
    assert sorted(path.name for path in folder.iterdir()) == ["nyu-mll--blimp.yaml", "nyu-mll--glue.yaml"]
    entries = parse_eval_result_entries(yaml.safe_load((folder / "nyu-mll--glue.yaml").read_text()))
    by_task = {entry.task_id: entry for entry in entries}
    assert by_task["cola"].dataset_id == "nyu-mll/glue"
    assert by_task["cola"].value == 0.485
    assert "48.5 ± 1.9, mean of 4 seeds; read from glue/CoLA/dev.tsv" in by_task["cola"].notes
    assert "chosen on the reported split" in by_task["cola"].notes


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"whereabouts": {"hub": "nyu-mll/blimp"}}, ("nyu-mll/blimp", None)),
        ({"data": {"layouts": [{"folders": ["x"]}, {"hub": "nyu-mll/glue/cola@abc"}]}}, ("nyu-mll/glue", "cola")),
        ({"data": {"hub": None}}, None),
        ({"data": {"hub": "../../etc/passwd\n"}}, None),
        ({}, None),
    ],
)
def test_the_data_sets_name_on_the_hub(records: Records, settings: dict[str, Any], expected: object):
    assert hub_dataset(records["blimp"](settings=settings)) == expected


def test_a_task_without_a_name_on_the_hub_stands_in_the_card_only(records: Records, tmp_path: Path):
    own = records["fine_tuned"]("own", "Own", "accuracy", [0.5], None, settings={})
    assert write_eval_results([own], tmp_path) == []
    assert not (tmp_path / ".eval_results").exists()
    assert model_index([own])[0].dataset_type == "own"


def test_what_people_wrote_stays_and_what_we_wrote_goes_with_its_score(records: Records, tmp_path: Path):
    blimp = records["blimp"]()
    (path,) = write_eval_results([blimp], tmp_path)
    theirs = tmp_path / ".eval_results" / "theirs.yaml"
    theirs.write_text("- dataset: {id: a/b, task_id: c}\n  value: 1\n")
    assert write_eval_results([], tmp_path) == []
    assert not path.exists()
    path.write_text("# mine\n")
    assert write_eval_results([blimp], tmp_path) == []
    assert path.read_text() == "# mine\n"
    assert theirs.exists()


def test_a_score_that_is_not_defined_is_not_sent_to_the_hub(records: Records, tmp_path: Path):
    blimp = records["blimp"](scores={"accuracy": float("nan")})
    assert model_index([blimp]) == []
    assert write_eval_results([blimp], tmp_path) == []
