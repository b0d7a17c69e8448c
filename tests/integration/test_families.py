"""A recipe's family trains and comes out as the class of transformers that goes by its name."""

import json

import pytest
from tests.integration.conftest import written
from transformers import AutoModelForMaskedLM


@pytest.mark.parametrize(
    ("family", "architecture"), [("deberta", "DebertaForMaskedLM"), ("deberta_v2", "DebertaV2ForMaskedLM")]
)
def test_two_steps_train_and_are_exported(maskwright, raw_recipe, tmp_path, family, architecture):
    changes = {"encoder": {"family": family, "size": "tiny"}, "budget": {"steps": 2}}
    recipe = written(tmp_path / "recipe.yaml", raw_recipe | changes)
    said = maskwright("train", recipe, "--run", tmp_path / "run")
    assert said.code == 0, said.err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["export"]["architecture"] == architecture
    assert record["export"]["max_logit_difference"] < 1e-4
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / "model")
    assert type(model).__name__ == architecture
