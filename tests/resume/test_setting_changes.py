"""A learning rate or clip norm that is changed while a run is stopped holds from the next step on, and is exact."""

import json
import os
import signal

import pytest
import yaml
from tests.resume.conftest import outcome

from maskwright.core.errors import RecipeError
from maskwright.core.records.run import RunFolder, RunRecord
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.setting_changes import RecipeBySteps


@pytest.fixture
def train_to(maskwright, raw_recipe, tmp_path, monkeypatch):
    """Return a function that begins or resumes a run by the command line, and lets a signal stop it after a step."""
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**raw_recipe, "probes": {}}))

    def stop(step):
        if step.state.step == stop.at:
            os.kill(os.getpid(), signal.SIGTERM)

    def train(run, last_step, *more):
        stop.at = last_step
        has_begun = (run / "run.json").exists()
        said = maskwright("train", *([] if has_begun else [path]), "--run", run, *(["--resume"] * has_begun), *more)
        return said

    monkeypatch.setattr("maskwright.training.loop.Display.after_step", lambda self, step: stop(step))
    return train


def test_a_change_holds_from_the_next_step_on(train_to, tmp_path):
    rate, norm = "optimizer.learning_rate=1e-4", "optimizer.clip_norm=0.001"
    one, other = tmp_path / "one", tmp_path / "other"
    train_to(one, 5)
    assert train_to(one, 12, "--set", rate, "--set", norm).code == 0
    train_to(other, 5)
    train_to(other, 7, "--set", rate, "--set", norm)
    assert train_to(other, 12).code == 0
    assert outcome(one) == outcome(other)
    lines = [json.loads(line) for line in RunFolder(one).metrics.read_text().splitlines()]
    assert lines[5]["learning_rate"] < 0.3 * lines[4]["learning_rate"]
    record = RunRecord.read(RunFolder(one).run_record)
    assert [(each.step, each.key, each.value) for each in record.setting_changes] == [
        (5, "optimizer.learning_rate", 1e-4),
        (5, "optimizer.clip_norm", 0.001),
    ]
    assert record.recipe["optimizer"]["learning_rate"] == 1e-3
    for page in (RunFolder(one).report, RunFolder(one).model / "README.md"):
        assert "From step 6 on, optimizer.learning_rate was 0.0001" in page.read_text().replace("\\", "")
    assert train_to(one, 12, "--set", rate).code == RecipeError.exit_code


def test_only_some_settings_may_change(raw_recipe):
    recipes = RecipeBySteps(parse_recipe(raw_recipe, "test"), [])
    for settings in ({"batch.tokens": 1024}, {"optimizer.learning_rate": -1}, {"phases.7.learning_rate": 1e-3}):
        with pytest.raises(RecipeError):
            recipes.changed(5, 0, settings)
    with pytest.raises(RecipeError, match=r"phase 1 is over(.|\n)*phases\.1\.learning_rate, of the phase that runs"):
        recipes.changed(9, 1, {"phases.0.learning_rate": 1e-4})
    assert recipes.changed(5, 0, {"phases.1.learning_rate": 1e-4}).at(9).peak_learning_rate(1) == 1e-4
    changed = recipes.changed(5, 0, {"phases.0.learning_rate": 1e-4})
    assert [changed.at(step).peak_learning_rate(0) for step in (4, 5)] == [1e-3, 1e-4]
    with pytest.raises(RecipeError, match=r"phases\.0\.learning_rate"):
        changed.changed(6, 0, {"optimizer.learning_rate": 1e-4})


def test_a_change_before_another_takes_its_place(raw_recipe):
    """A run that had to go back behind a change does not come to it again."""
    rate, norm = "optimizer.learning_rate", "optimizer.clip_norm"
    recipes = RecipeBySteps(parse_recipe(raw_recipe, "test"), [])
    changed = recipes.changed(9, 0, {rate: 1e-4, norm: 0.5}).changed(3, 0, {rate: 1e-5})
    assert [changed.at(step).optimizer.learning_rate for step in (2, 3, 9)] == [1e-3, 1e-5, 1e-5]
    assert [changed.at(step).optimizer.clip_norm for step in (3, 9)] == [1.0, 0.5]
