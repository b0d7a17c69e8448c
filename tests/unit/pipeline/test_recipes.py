"""Recipes as the command line takes them."""

import pytest
import yaml

from maskwright.core.errors import CheckpointError, ExportError, RecipeError
from maskwright.core.records.run import record_of
from maskwright.pipeline.chosen_recipe import name_of, require_recipe_or_means
from maskwright.pipeline.locate import model_folder_of
from maskwright.pipeline.recipes import read_with_overrides
from maskwright.pipeline.train import require_sensible


@pytest.fixture
def path(tmp_path, raw_recipe):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(raw_recipe), encoding="utf-8")
    return path


def test_settings_replace_values_of_every_kind(path):
    settings = [
        "seed=7",
        "optimizer.learning_rate=3e-4",
        "phases.1.sequence_length=16",
        "checkpoints.every_steps=null",
        "phases.0.objective={name: mlm, rate: 0.2}",
        "name=a=b",
    ]
    recipe = read_with_overrides(path, (), settings)
    assert (recipe.seed, recipe.optimizer.learning_rate, recipe.name) == (7, 3e-4, "a=b")
    assert recipe.phases[1].sequence_length == 16
    assert recipe.checkpoints.every_steps is None
    assert recipe.phases[0].objective.options.rate == 0.2


def test_data_replaces_the_text_and_keeps_how_it_is_read(path, raw_recipe):
    assert read_with_overrides(path, ["a.txt"], ()).data.names == ("a.txt",)
    several = read_with_overrides(path, ["a.txt", "b.txt"], ())
    assert several.data.names == ("a.txt", "b.txt")
    assert several.data.held_out_fraction == raw_recipe["data"]["held_out_fraction"]


@pytest.mark.parametrize("setting", ["seed", "seed.deep=1", "phases.x.share=1", "seed=[1"])
def test_settings_that_make_no_sense(path, setting):
    with pytest.raises(RecipeError, match=r"--set|seed"):
        read_with_overrides(path, (), [setting])


def test_a_command_either_begins_or_goes_on(path):
    require_recipe_or_means(path, [], None)
    require_recipe_or_means(None, ["text"], 1.0)
    for arguments, missing in [
        ((None, [], None), "--data and --hours"),
        ((None, ["text"], None), "no --hours"),
        ((None, [], 1.0), "no --data"),
        ((path, [], 0.0), "more than 0"),
        ((None, ["text"], 1.0, path), "--from without a recipe"),
    ]:
        with pytest.raises(RecipeError, match=missing):
            require_recipe_or_means(*arguments)
    require_sensible(None, path, False)
    for arguments in [(None, None, False), (path, path, False)]:
        with pytest.raises(RecipeError):
            require_sensible(*arguments)
    with pytest.raises(RecipeError, match="the run knows its recipe"):
        require_sensible(None, path, True)


def test_a_run_has_the_name_of_its_text(tmp_path):
    names = ["texts/", "texts/a.jsonl", "texts/*.txt", "texts/**/*.txt", "hf:org/set/main/train", "builtin:docstrings"]
    found = [name_of([name]) for name in names]
    assert found == ["texts", "a", "texts", "texts", "org-set-main-train", "docstrings"]


def test_a_path_is_a_run_or_a_model(tmp_path):
    with pytest.raises(ExportError, match="does not exist"):
        model_folder_of(tmp_path / "nothing")
    with pytest.raises(ExportError, match="neither a run nor a model"):
        model_folder_of(tmp_path)
    with pytest.raises(CheckpointError, match="holds no run"):
        record_of(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ExportError, match="no exported model"):
        model_folder_of(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert model_folder_of(tmp_path) == tmp_path / "model"
    assert model_folder_of(tmp_path / "model") == tmp_path / "model"
