"""Where recipes differ."""

from maskwright.training.recipe.differences import differing, leaves
from maskwright.training.recipe.recipe import parse_recipe


def test_leaves_have_dotted_keys():
    nested = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": 2}, {"f": {}}], "g": None}
    assert leaves(nested) == {"a.b": 1, "a.c": [1, 2], "d.0.e": 2, "d.1.f": {}, "g": None}


def test_only_keys_that_differ_are_told(raw_recipe):
    changed = {**raw_recipe, "name": "other", "seed": 9, "budget": {"steps": 3}, "optimizer": {"learning_rate": 2e-3}}
    recipes = {"first": parse_recipe(raw_recipe, "first"), "second": parse_recipe(changed, "second")}
    assert differing(recipes) == {
        "first": {"optimizer.learning_rate": 1e-3},
        "second": {"optimizer.learning_rate": 2e-3},
    }


def test_a_key_that_only_one_recipe_has_is_absent_in_the_other(raw_recipe):
    shorter = {**raw_recipe, "phases": raw_recipe["phases"][:1]}
    found = differing({"long": parse_recipe(raw_recipe, "long"), "short": parse_recipe(shorter, "short")})
    assert found["long"]["phases.1.sequence_length"] == 32
    assert "phases.1.sequence_length" not in found["short"]
    assert differing({"one": parse_recipe(raw_recipe, "one"), "same": parse_recipe(raw_recipe, "same")})["one"] == {}
