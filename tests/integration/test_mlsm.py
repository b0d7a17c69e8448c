"""A recipe with a teacher, a dictionary and a student, from text to a model."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.integration.test_two_processes import losses, run_on_two

DICTIONARY = {"num_atoms": 12, "num_states": 500, "num_tokens": 1500, "num_updates": 3}
KINDS = {
    "cached": [{"name": "atoms", "dictionary": DICTIONARY}],
    "itself": [{"name": "own_atoms", "dictionary": DICTIONARY, "refresh_steps": 2}, "token"],
}


def recipe_of(folder: Path, raw_recipe, kind: str) -> Path:
    """Write a recipe of two steps of MLM and four of MLSM."""
    student = {"objective": {"name": "mlsm", "terms": KINDS[kind]}, "share": 2, "weights": "fresh"}
    phases = [{"sequence_length": 32}, {**student, "sequence_length": 32}]
    path = folder / "mlsm.yaml"
    path.write_text(yaml.safe_dump({**raw_recipe, "phases": phases, "budget": {"steps": 6}}), encoding="utf-8")
    return path


def test_from_text_to_a_model(maskwright, raw_recipe, tmp_path):
    recipe = recipe_of(tmp_path, raw_recipe, "cached")
    said = maskwright("plan", recipe)
    assert said.code == 0
    assert "pays off after" in said.out
    said = maskwright("train", recipe, "--run", tmp_path / "run")
    assert said.code == 0, said.err
    assert "will not be able to fill masks" in said.err
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert ["atoms" in line for line in lines] == [False] * 2 + [True] * 4
    assert all(0 <= line["atoms_agreement"] <= 1 for line in lines[2:])
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "did not train the head that predicts tokens" in " ".join(card.split())
    said = maskwright("fill", tmp_path / "run", "a [MASK] word")
    assert "its last phase, mlsm, did not train the head that predicts tokens" in " ".join(said.err.split())
    exported = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert not [name for name in exported if "latent" in name or "objective" in name]


def test_late_masks_with_latent_semantics_are_a_recipe(maskwright, raw_recipe, tmp_path):
    """3ML's reading, MLSM's term and the tokens, in one forward pass."""
    terms = ["token", {"name": "atoms", "weight": 0.5, "dictionary": DICTIONARY}]
    student = {"objective": {"name": "late_mask", "rate": 0.5, "terms": terms}, "share": 2, "sequence_length": 32}
    raw = {**raw_recipe, "phases": [{"sequence_length": 32}, student], "budget": {"steps": 6}}
    path = tmp_path / "both.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    said = maskwright("train", path, "--run", tmp_path / "run")
    assert said.code == 0, said.err
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for line in lines[2:]:
        assert line["loss"] == pytest.approx(line["token"] + 0.5 * line["atoms"], rel=1e-6)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert {"late_mask", "atoms", "token"} <= set(record["citations"])
    assert maskwright("fill", tmp_path / "run", "the [MASK] ruled").code == 0


def test_the_best_model_is_judged_by_atoms_where_nothing_else_is_learned(maskwright, raw_recipe, tmp_path):
    recipe = recipe_of(tmp_path, raw_recipe, "cached")
    stopping = ["probes.every_steps=1", "probes.stop_after_no_improvement=9"]
    said = maskwright("train", recipe, "--run", tmp_path / "run", *(f"--set={each}" for each in stopping))
    assert said.code == 0, said.err
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    of_atoms = [line for line in lines if "held_out_atoms" in line]
    assert {"held_out_loss", "held_out_atoms_agreement", "held_out_cross_entropy"} <= set(of_atoms[-1])
    assert all(line["held_out_loss"] == line["held_out_atoms"] for line in of_atoms)
    result = json.loads((tmp_path / "run" / "run.json").read_text())["result"]
    lowest = min(of_atoms, key=lambda line: line["held_out_loss"])
    assert (result["best_step"], result["best_held_out_loss"]) == (lowest["step"], lowest["held_out_loss"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_what_one_trains(maskwright, raw_recipe, tmp_path, kind):
    recipe = recipe_of(tmp_path, raw_recipe, kind)
    assert maskwright("train", recipe, "--run", tmp_path / "one" / "run").code == 0
    first, second = run_on_two("train", recipe, "--run", "two/run", cwd=tmp_path)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    one, two = tmp_path / "one" / "run", tmp_path / "two" / "run"
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    weights = [load_file(run / "checkpoints" / "step-000006" / "model.safetensors") for run in (one, two)]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-3, rtol=0)
