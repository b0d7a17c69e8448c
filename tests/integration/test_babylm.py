"""A run for the BabyLM challenge through the command line: checkpoints by words, and the submission."""

import json
from pathlib import Path

import pytest
from tests.integration.conftest import written
from transformers import AutoModelForMaskedLM


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The challenge's folder, with two pairs."""
    pair = {"sentence_good": "The court heard.", "sentence_bad": "The heard court.", "linguistics_term": "order"}
    folder = tmp_path / "full_eval" / "blimp_filtered"
    folder.mkdir(parents=True)
    (folder / "adjunct_island.jsonl").write_text(f"{json.dumps(pair)}\n" * 2)
    return tmp_path / "full_eval"


def test_a_run_leaves_its_checkpoints_and_its_submission(maskwright, raw_recipe, data, tmp_path):
    raw = {**raw_recipe, "budget": {"steps": 4}, "checkpoints": {"by_words": [300, 500, 5_000_000]}}
    run = tmp_path / "run"
    said = maskwright("train", written(tmp_path / "recipe.yaml", raw), "--run", run)
    assert said.code == 0, said.err
    assert "words will be seen" in said.err
    assert "chck_0.0003M ... chck_0.0005M (2)" in said.err
    assert sorted(folder.name for folder in (run / "babylm").iterdir()) == ["chck_0.0003M", "chck_0.0005M"]
    assert AutoModelForMaskedLM.from_pretrained(run / "babylm" / "chck_0.0003M").config.vocab_size > 100
    said = maskwright("evaluate", run, "--tasks", "blimp", "--data", data, "--babylm", 2025)
    assert said.code == 0, said.err
    path = run / "evaluation" / "babylm" / "all_full_preds_and_fast_scores_mlm.json"
    assert str(path) in said.out.replace("\n", "")
    rows = json.loads(path.read_text())["blimp"]["adjunct_island"]["predictions"]
    assert [row["id"] for row in rows] == ["adjunct_island_0", "adjunct_island_1"]
    assert "blimp/adjunct_island: 2 items, expected 928" in said.err
    assert "ewok" in said.err


def test_the_plan_says_what_is_measured_and_exported(maskwright, raw_recipe, tmp_path):
    raw = {**raw_recipe, "checkpoints": {"by_words": "babylm"}, "probes": {"num_probes": 3}}
    said = maskwright("plan", written(tmp_path / "recipe.yaml", raw))
    assert said.code == 0, said.err
    assert "3 times held-out loss and clozes, in at most 5% of the training time" in " ".join(said.out.split())
    assert "chck_1M ... chck_1000M" in " ".join(said.out.split())


@pytest.mark.parametrize("by_words", ["babylon", [0], [-5], ["1M"]])
def test_marks_that_are_none_are_refused(maskwright, raw_recipe, tmp_path, by_words):
    raw = {**raw_recipe, "checkpoints": {"by_words": by_words}}
    said = maskwright("train", written(tmp_path / "recipe.yaml", raw), "--run", tmp_path / "run")
    assert said.code == 78
    assert "checkpoints.by_words" in said.err
