"""The recipes of masking strategies and of late masks: there is one of each, and each trains."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from maskwright.core.discovery import plug_in_names
from maskwright.core.ranks import Ranks
from maskwright.core.records.masked_example import FILE, MaskedExample
from maskwright.core.records.run import RunFolder
from maskwright.corpus.corpus import Corpus
from maskwright.masking.masking import STRATEGIES
from maskwright.masking.rates import RateSchedule, rate_at
from maskwright.training.loop import TrainingLoop
from maskwright.training.recipe.recipe import read_recipe
from maskwright.training.run import assemble_run

RECIPES = Path(__file__).parents[2] / "recipes"
STRATEGY_RECIPES = sorted((RECIPES / "masking").glob("*.yaml"))
SMALL: dict[str, Any] = {
    "encoder.size": None,
    "encoder.overrides": {"num_layers": 9, "hidden_size": 16, "num_heads": 2, "feed_forward_size": 24},
    "budget": {"steps": 4},
    "batch": {"tokens": 512, "micro_batch_tokens": 256},
    "engine": {"device": "cpu", "dtype": "float32", "compile": "off"},
    "probes": {},
}


@pytest.mark.parametrize(
    "path", [*STRATEGY_RECIPES, *sorted(RECIPES.glob("late_mask*.yaml"))], ids=lambda path: path.stem
)
def test_each_trains(path: Path, corpus: Corpus, tmp_path: Path) -> None:
    recipe = read_recipe(path, SMALL)
    folder = RunFolder(tmp_path / "run")
    TrainingLoop(assemble_run(recipe, corpus, folder, Ranks(), {})).train()
    losses = [json.loads(line)["loss"] for line in folder.metrics.read_text(encoding="utf-8").splitlines()]
    assert len(losses) >= 4
    assert all(0 < loss < 2 * math.log(corpus.vocabulary.size) for loss in losses)
    for number, phase in enumerate(recipe.phases):
        example = MaskedExample.read(folder.phase(number) / FILE)
        assert example.objective == phase.objective.name
        share = sum(example.is_scored) / len(example.tokens)
        assert share == pytest.approx(rate_at(phase.objective.options.rate, 1.0), abs=0.1)


def test_there_is_one_of_each_strategy_and_they_differ_in_their_phases_alone() -> None:
    recipes = {path.stem: read_recipe(path) for path in STRATEGY_RECIPES}
    objectives = {name: recipe.phases[-1].objective for name, recipe in recipes.items()}
    for name in plug_in_names(STRATEGIES.package):
        assert objectives[name].options.strategy.name == name
    assert objectives["self_evolution"].name == "self_evolution"
    assert objectives["rate_schedule"].options.rate == RateSchedule(start=0.40, end=0.15)
    own = {"name", "description", "phases"}
    assert len({recipe.model_dump_json(exclude=own) for recipe in recipes.values()}) == 1
