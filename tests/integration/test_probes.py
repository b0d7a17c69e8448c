"""Minimal pairs during training: measured, drawn, and without any effect on the weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.integration.conftest import written

PAIRS = [
    {"sentence_good": "The court heard the appeal.", "sentence_bad": "The court heard appeal the."},
    {"sentence_good": "People lived near the river.", "sentence_bad": "People near lived the river."},
    {"sentence_good": "Boats carried grain.", "sentence_bad": "Carried boats grain."},
]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A data folder with BLiMP in its own layout, but two paradigms of three pairs."""
    folder = tmp_path / "data" / "blimp" / "data"
    folder.mkdir(parents=True)
    for term, uid in (("order", "verb_order"), ("island_effects", "wh_island")):
        lines = [json.dumps({**pair, "UID": uid, "linguistics_term": term}) for pair in PAIRS]
        (folder / f"{uid}.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def with_pairs(raw: dict, pairs: Path, **options: object) -> dict:
    section = {"data": str(pairs), "num_pairs": 4}
    return {**raw, "probes": {"every_steps": 4, "tokens": 256, "minimal_pairs": section, "max_share": None} | options}


def test_the_curve_is_measured_and_changes_nothing(maskwright, raw_recipe, pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    probed = written(tmp_path / "probed.yaml", with_pairs(raw_recipe, Path("data")))
    plain = written(tmp_path / "plain.yaml", raw_recipe)
    for recipe in (probed, plain):
        said = maskwright("train", recipe, "--run", tmp_path / "runs" / recipe.stem)
        assert said.code == 0, said.err
    lines = {line["step"]: line for line in metrics(tmp_path / "runs" / "probed")}
    assert [step for step, line in lines.items() if "blimp_accuracy" in line] == [4, 8, 12]
    assert 0 <= lines[12]["blimp_accuracy"] <= 1
    assert {"blimp_order", "blimp_island_effects", "held_out_cross_entropy", "probe_seconds"} <= set(lines[12])
    one, other = (
        load_file(tmp_path / "runs" / name / "checkpoints" / "step-000012" / "model.safetensors")
        for name in ("probed", "plain")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    record = json.loads((tmp_path / "runs" / "probed" / "run.json").read_text())
    assert record["recipe"]["probes"]["minimal_pairs"]["data"] == str(pairs)
    assert record["result"]["probe_seconds"] > 0
    assert "Minimal pairs" in (tmp_path / "runs" / "probed" / "report.html").read_text()


def test_probes_that_cost_too_much_are_fewer_and_it_is_recorded(maskwright, raw_recipe, pairs, tmp_path):
    recipe = written(tmp_path / "recipe.yaml", with_pairs(raw_recipe, pairs, every_steps=1, max_share=0.001))
    said = maskwright("train", recipe, "--run", tmp_path / "run")
    assert said.code == 0, said.err
    assert "over probes.max_share" in said.err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["plan"]["probe_strides"] == {
        "loss": 12,
        "held_out": 12,
        "minimal_pairs": 0,
    }
    for figure in ("held_out_loss", "held_out_cross_entropy"):
        assert [line["step"] for line in metrics(tmp_path / "run") if figure in line] == [12]
    assert not any("blimp_accuracy" in line for line in metrics(tmp_path / "run"))


@pytest.mark.parametrize(
    ("section", "code", "message"),
    [
        ({"data": "nowhere"}, 68, "nowhere"),
        ({"data": "nowhere", "task": "cola"}, 78, "is no task of minimal pairs"),
        ({"data": "nowhere", "task": "blmp"}, 78, "did you mean 'blimp'"),
    ],
)
def test_pairs_that_are_not_there_stop_the_run_before_text_is_prepared(
    maskwright, raw_recipe, tmp_path, section, code, message
):
    probes = {"num_probes": 2, "minimal_pairs": section}
    said = maskwright(
        "train", written(tmp_path / "recipe.yaml", {**raw_recipe, "probes": probes}), "--run", tmp_path / "a" / "run"
    )
    assert said.code == code, said.err
    assert message in said.err
    assert not (tmp_path / "a" / "corpora").exists()


def test_pairs_without_a_rhythm_are_refused(maskwright, raw_recipe, tmp_path):
    recipe = written(tmp_path / "recipe.yaml", {**raw_recipe, "probes": {"minimal_pairs": {"data": "x"}}})
    said = maskwright("train", recipe, "--run", tmp_path / "run")
    assert said.code == 78
    assert "needs every_steps or num_probes" in said.err
