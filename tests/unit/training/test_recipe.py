"""Recipes: every problem at once, the nearest key named, every default filled in."""

from pathlib import Path

import pytest

from maskwright.core.errors import RecipeError
from maskwright.core.strict_yaml import load_yaml, parse_yaml
from maskwright.training.recipe.recipe import parse_recipe, read_recipe

RECIPES = sorted(Path(__file__).parents[3].glob("recipes/**/*.yaml"))


def phase_of(sequence_length, **objective):
    return {"phases": [{"objective": objective, "sequence_length": sequence_length}]}


def test_defaults_are_filled_in_also_those_of_the_objective(raw_recipe):
    recipe = parse_recipe(raw_recipe, "test")
    assert recipe.phases[0].objective.options.rate == 0.30
    assert recipe.phases[1].objective.options.strategy.name == "whole_word"
    assert parse_recipe(recipe.model_dump(mode="json"), "again") == recipe


def test_all_problems_are_reported_at_once_with_the_nearest_key(raw_recipe):
    raw_recipe["optimizer"] = {"learning_rte": 1e-3}
    raw_recipe["phases"][0]["objective"] = {"name": "mlm", "raet": 0.2}
    raw_recipe["batch"]["tokens"] = -5
    with pytest.raises(RecipeError) as caught:
        parse_recipe(raw_recipe, "my.yaml")
    message = str(caught.value)
    assert "my.yaml has 3 problem(s)" in message
    assert "optimizer.learning_rte: unknown key, did you mean 'learning_rate'?" in message
    assert "phases.0.objective.raet: unknown key, did you mean 'rate'?" in message
    assert "batch.tokens" in message
    assert "-5" in message
    assert len(message.splitlines()) <= 6


def test_a_wrong_phase_is_one_problem_and_not_also_a_missing_one(raw_recipe):
    objective = {"name": "mlm", "terms": ["token", {"name": "atoms", "wieght": 1}]}
    with pytest.raises(RecipeError) as refusal:
        parse_recipe(raw_recipe | {"phases": [{"objective": objective}]}, "test")
    assert "has 1 problem(s)" in str(refusal.value) and "did you mean 'weight'" in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"objektive": 1}, "objektive: unknown key"),
        ({"phases": [{"objective": {"name": "mml"}}]}, "did you mean 'mlm'?"),
        ({"budget": {}}, "exactly one of"),
        ({"budget": {"steps": 3, "hours": 1}}, "steps, hours"),
        ({"encoder": {"max_positions": 16}}, "less than the longest sequence"),
        ({"batch": {"tokens": 500, "micro_batch_tokens": 256}}, "no multiple of"),
        ({"phases": [{"sequence_length": 48}]}, "does not divide"),
        ({"phases": []}, "at least 1 item"),
        ({"phases": [{"objective": {"name": "mlm", "mask_fraction": 0.5}}]}, "it must be 1"),
        (phase_of(16, name="mlm", rate=0.99), "phases.0.objective: no token would be left visible in a sequence of 16"),
        (phase_of(8, name="mlm", rate={"start": 0.4, "end": 0.05}), "no token would be masked in a sequence of 8"),
        (phase_of(16, name="mlm", rate=1.5), "phases.0.objective.rate: input should be less than 1, got 1.5"),
        (phase_of(16, name="mlm", rate={"start": 0.4}), "phases.0.objective.rate.end: is missing"),
        (phase_of(16, name="mlm", rate={"start": 0.4, "edn": 0.1}), "did you mean 'end'?"),
        (phase_of(16, name="late_mask", insert_at=2), "insert_at: 2, the encoder has 2 layers"),
        (phase_of(16, name="late_mask", insert_at=1, decoder="cross"), "phases.0.objective: insert_at has no decoder"),
        ({"probes": {"stop_after_no_improvement": 2}}, "needs every_steps"),
        ({"phases": "mlm"}, "phases: "),
        ({"seed": "one"}, "got 'one'"),
    ],
)
def test_a_bad_value_is_named(raw_recipe, changes, expected):
    with pytest.raises(RecipeError, match="problem") as caught:
        parse_recipe({**raw_recipe, **changes}, "test")
    assert expected in str(caught.value)


def test_overrides_replace_values_by_dotted_key(tmp_path, raw_recipe):
    import yaml

    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(raw_recipe), encoding="utf-8")
    recipe = read_recipe(path, {"optimizer.learning_rate": 0.5, "phases.1.sequence_length": 16, "seed": 9})
    assert (recipe.optimizer.learning_rate, recipe.phases[1].sequence_length, recipe.seed) == (0.5, 16, 9)
    with pytest.raises(RecipeError, match="no such key"):
        read_recipe(path, {"phases.7.sequence_length": 16})


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid(path):
    assert read_recipe(path).name == path.stem


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("1_000", 1000),
        ("12:30:00", "12:30:00"),
        ("-.5", -0.5),
    ],
)
def test_yaml_has_no_traps(text, value):
    assert parse_yaml(f"key: {text}", "test") == {"key": value}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: 1\na: 2\n", "line 2: the key 'a' stands twice"),
        (b"a: [1\n", "line 2"),
        (b"- 1\n", "holds a list"),
        (b"\xff\xfe", "byte 0: not UTF-8"),
        (b"a: !!python/object:os.system {}\n", "line 1"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_with_its_line(tmp_path, content, expected):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_yaml(path)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(RecipeError, match="is no file"):
        read_recipe(tmp_path / "absent.yaml")
