"""The recipes of the published MLSM run: the full one says what was published, its twin does the same in small."""

import json
from pathlib import Path
from typing import Any

import pytest

from maskwright.core.ranks import Ranks
from maskwright.core.records.masked_example import FILE, MaskedExample
from maskwright.core.records.run import RunFolder
from maskwright.corpus.corpus import Corpus
from maskwright.training.loop import TrainingLoop
from maskwright.training.recipe.recipe import Recipe, read_recipe
from maskwright.training.run import assemble_run

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = {
    "encoder.size": None,
    "encoder.overrides": {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 48}
    | {"hidden_dropout": 0.1, "attention_dropout": 0.1},
    "budget": {"steps": 2},
    "batch": {"tokens": 1024, "micro_batch_tokens": 512},
    "phases.1.objective.terms.0.dictionary": {"num_atoms": 8, "num_states": 200, "num_tokens": 2000, "num_updates": 4},
    "probes": {},
}


@pytest.mark.parametrize("name", ["mlsm_babylm_strict", "mlsm_babylm_tiny"])
def test_each_trains_a_step_of_both_phases(name: str, corpus: Corpus, tmp_path: Path) -> None:
    recipe = read_recipe(RECIPES / f"{name}.yaml", SMALL)
    folder = RunFolder(tmp_path / "run")
    TrainingLoop(assemble_run(recipe, corpus, folder, Ranks(), {})).train()
    teacher, *_, student = (json.loads(line) for line in folder.metrics.read_text().splitlines())
    assert teacher["token"] > 0 and "atoms" not in teacher
    assert student["token"] > 0 and student["atoms"] > 0
    assert student["loss"] == pytest.approx(student["token"] + student["atoms"])
    examples = [MaskedExample.read(folder.phase(number) / FILE) for number in range(2)]
    assert [example.objective for example in examples] == ["mlm", "mlsm"] and any(examples[1].is_scored)


def test_the_full_one_is_what_was_published() -> None:
    recipe = read_recipe(RECIPES / "mlsm_babylm_strict.yaml")
    assert recipe.batch.tokens == 1024 * 128 and recipe.longest_sequence == 128
    assert [phase.share for phase in recipe.phases] == [20_000_000 // 1024, 100_000]
    assert sum(phase.share for phase in recipe.phases) == recipe.budget.steps
    assert recipe.phases[1].weights == "fresh"
    assert (recipe.optimizer.learning_rate, recipe.schedule.name, recipe.schedule.warmup_fraction) == (
        1e-4,
        "linear",
        0.01,
    )


def test_the_twin_differs_in_size_alone() -> None:
    full, tiny = (read_recipe(RECIPES / f"mlsm_babylm_{size}.yaml") for size in ("strict", "tiny"))

    def kind(recipe: Recipe) -> dict[str, Any]:
        phases = recipe.model_dump()["phases"]
        for term in phases[1]["objective"]["terms"]:
            for size in ("dictionary", "targets"):
                term.pop(size, None)
        optimizer = recipe.optimizer.model_dump(exclude={"learning_rate"})
        family, overrides = recipe.encoder.family, recipe.encoder.overrides
        return {"phases": phases, "optimizer": optimizer, "schedule": recipe.schedule, "encoder": (family, overrides)}

    assert kind(full) == kind(tiny)
