"""A phase may have a peak learning rate of its own and parts that don't learn."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tests.integration.conftest import written

from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder
from maskwright.training.loop import TrainingLoop
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.run import assemble_run


def phases(**second: object) -> list[dict[str, object]]:
    return [{"sequence_length": 32, "share": 1}, {"sequence_length": 32, "share": 1, **second}]


def trained(raw_recipe, corpus, folder, **second: object) -> RunFolder:
    raw = raw_recipe | {
        "phases": phases(**second),
        "budget": {"steps": 6},
        "schedule": {"warmup_fraction": 0.0, "decay_fraction": 0.0},
        "checkpoints": {"every_steps": 3, "every_minutes": None, "keep_last": 9},
        "probes": {},
    }
    run = RunFolder(folder)
    TrainingLoop(assemble_run(parse_recipe(raw, "test"), corpus, run, Ranks(), {})).train()
    return run


def weights(run: RunFolder, step: int) -> dict[str, torch.Tensor]:
    return load_file(run.checkpoints / f"step-{step:06}" / "model.safetensors")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_frozen_parts_stay_as_they_are_and_learn_again_in_a_later_phase(raw_recipe, corpus, tmp_path, optimizer):
    raw = raw_recipe | {"optimizer": {"name": optimizer, "learning_rate": 1e-3, "weight_decay": 0.1}}
    run = trained(raw, corpus, tmp_path / "second", freeze=[1, "token_embedding"])
    middle, end = weights(run, 3), weights(run, 6)
    is_equal = {name: torch.equal(middle[name], end[name]) for name in middle}
    frozen = {name for name in middle if name.startswith("encoder.blocks.0.")} | {"encoder.token_embedding.weight"}
    assert all(is_equal[name] for name in frozen)
    assert not any(same for name, same in is_equal.items() if name not in frozen)


def test_a_phase_has_its_own_peak(raw_recipe, corpus, tmp_path):
    run = trained(raw_recipe, corpus, tmp_path / "run", learning_rate=2e-4)
    rates = [json.loads(line)["learning_rate"] for line in run.metrics.read_text().splitlines()]
    assert rates == pytest.approx([1e-3] * 3 + [2e-4] * 3)
    plain, same = (
        trained(raw_recipe, corpus, tmp_path / name, **options)
        for name, options in (("plain", {}), ("same", {"learning_rate": 1e-3, "freeze": []}))
    )
    assert all(torch.equal(weights(plain, 6)[name], tensor) for name, tensor in weights(same, 6).items())


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"freeze": [9]}, "9 blocks, the encoder has 2"),
        ({"freeze": ["encoder", "vocabulary_head"]}, "freeze leaves nothing that learns"),
        ({"freeze": ["encoder"], "weights": "fresh"}, "fresh ones that never learned"),
        ({"freeze": ["decoder"]}, "phases.1.freeze"),
        ({"learning_rate": 0}, "phases.1.learning_rate"),
    ],
)
def test_what_can_not_be_is_refused_before_the_first_step(maskwright, raw_recipe, corpus, tmp_path, second, message):
    recipe = written(tmp_path / "recipe.yaml", raw_recipe | {"phases": phases(**second)})
    said = maskwright("train", recipe, "--run", tmp_path / "run", "--corpus", corpus.folder)
    assert said.code == 78 and message in said.err, said.err
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
