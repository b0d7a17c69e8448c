"""Reopening a run: which checkpoint, whose recipe, and what is said of runs that another version began."""

import json
import shutil

import pytest
import torch
from tests.conftest import raw_record

from maskwright.core.errors import CheckpointError, CorpusError, RecipeError
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder, RunRecord, record_of
from maskwright.export.folder import import_model
from maskwright.training.export_checkpoint import export_run
from maskwright.training.loop import TrainingLoop
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.run import assemble_run
from maskwright.training.trained_run import open_run, recipe_of_run
from maskwright.training.watching.held_out_loss import HeldOutLoss

RECIPE = {
    "name": "reopened",
    "tokenizer": {"vocabulary_size": 120},
    "encoder": {
        "size": None,
        "overrides": {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "feed_forward_size": 16},
    },
    "budget": {"steps": 4},
    "phases": [{"sequence_length": 32}],
    "batch": {"tokens": 256, "micro_batch_tokens": 256},
    "optimizer": {"learning_rate": 1e-2},
    "engine": {"device": "cpu", "dtype": "float32", "compile": "off"},
    "checkpoints": {"every_steps": 1, "every_minutes": None, "keep_last": 4},
    "probes": {"every_steps": 1, "max_share": None},
}

MLSM_0_1 = {
    "name": "mlsm",
    "rate": 0.15,
    "strategy": {"name": "token"},
    "mask_fraction": 1.0,
    "random_fraction": 0.0,
    "kept_fraction": 0.0,
    "teacher": "phase_before",
    "layer": -1,
    "dictionary": {"folder": None, "num_atoms": 12, "num_states": 300, "num_tokens": 600, "num_updates": 5},
    "coding": {"penalty": 0.05, "solver": "exact", "tolerance": 0.0001, "num_iterations": 100, "keep_atoms": 64},
    "target": "codes",
    "targets": "cached",
    "mlm_weight": 1.0,
    "refresh_steps": 10000,
}
"""The options of a phase in a record of version 0.1."""


@pytest.fixture(scope="module")
def original(corpus, tmp_path_factory):
    """A run of four steps, the second of which is called the best."""
    losses = iter([3.0, 1.0, 2.0, 2.0])
    folder = RunFolder(tmp_path_factory.mktemp("reopened") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HeldOutLoss, "__call__", lambda *_: {"held_out_loss": next(losses)})
        TrainingLoop(assemble_run(parse_recipe(RECIPE, "test"), corpus, folder, Ranks(), {})).train()
    return folder.path


@pytest.fixture
def path(original, tmp_path):
    return shutil.copytree(original, tmp_path / "run")


@pytest.mark.parametrize(("which", "step"), [("newest", 4), ("best", 2), (3, 3)])
def test_a_run_is_reopened_with_the_weights_that_were_asked_for(path, which, step):
    run = open_run(path, which)
    assert (run.step, run.recipe.name, run.vocabulary.size) == (step, "reopened", 120)
    assert len(run.tokenizer) == 120
    others = [open_run(path, other) for other in {2, 3, 4} - {step}]
    weights = [each.model.encoder.embedding_weight_VE for each in (run, *others)]
    assert not any(torch.equal(weights[0], other) for other in weights[1:])


def test_the_exported_step_is_in_the_record_and_reopened(path):
    with pytest.raises(CheckpointError, match="from which step"):
        open_run(path)
    export_run(path, "best")
    assert open_run(path).step == 2
    exported = import_model(RunFolder(path).model).encoder
    torch.testing.assert_close(open_run(path).model.encoder.state_dict(), exported.state_dict(), atol=0, rtol=0)
    export_run(path, 3, out=path / "elsewhere")
    assert open_run(path).step == 2  # only RUN/model is the run's own


def test_an_exported_run_needs_no_corpus_for_its_tokenizer(path):
    record, moved = record_of(path), path.parent / "moved"
    record.model_copy(update={"corpus": str(moved)}).write(path / "run.json")
    with pytest.raises(CorpusError, match=r"moved, the corpus of .*, does not exist"):
        open_run(path, "newest")
    record.write(path / "run.json")
    export_run(path)
    record_of(path).model_copy(update={"corpus": str(moved)}).write(path / "run.json")
    assert len(open_run(path).tokenizer) == 120


def test_what_can_not_be_reopened_is_refused(path, tmp_path):
    with pytest.raises(CheckpointError, match="one of the steps 1, 2, 3, 4"):
        open_run(path, 7)
    with pytest.raises(CheckpointError, match="does not exist"):
        open_run(tmp_path / "nothing")
    shutil.rmtree(path / "checkpoints")
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        open_run(path, "newest")


def record_with(path, objective) -> RunRecord:
    """Return the record of a run of two phases, the second with an objective of another version."""
    record = record_of(path)
    phase = record.recipe["phases"][0]
    return record.model_copy(update={"recipe": {**record.recipe, "phases": [phase, {**phase, "objective": objective}]}})


@pytest.mark.parametrize(
    ("objective", "named"),
    [
        (MLSM_0_1, "coding, dictionary, layer, mlm_weight, refresh_steps, target, targets, teacher"),
        ({"name": "self_evolution", "rate": 0.3, "strategy": {"name": "token"}, "pool": 2.0}, "strategy"),
    ],
)
def test_options_of_version_0_1_are_refused_in_one_message(path, objective, named):
    with pytest.raises(CheckpointError) as refused:
        recipe_of_run(record_with(path, objective), "run.json")
    error = refused.value
    assert error.got.startswith("run.json: another version began this run: phase 2, ")
    assert error.got.endswith(f"has the options {named}")
    assert "train it anew" in error.to_do and "evaluated and reported" in error.to_do
    record_with(path, objective).write(path / "run.json")
    with pytest.raises(CheckpointError, match="another version began this run"):
        open_run(path, "newest")


def test_the_record_of_version_0_1_of_other_objectives_is_read(path):
    """Its phases said `masks_at_input`, and its export no step."""
    export_run(path)
    raw = raw_record(path / "run.json")
    for phase in raw["plan"]["phases"]:
        phase["masks_at_input"] = phase.pop("fills_masks") == "encoder"
    del raw["export"]["step"]
    raw["recipe"]["phases"][0]["objective"] = {
        key: value for key, value in raw["recipe"]["phases"][0]["objective"].items() if key != "terms"
    }
    (path / "run.json").write_text(json.dumps(raw))
    assert recipe_of_run(record_of(path), "run.json") == parse_recipe(RECIPE, "test")
    with pytest.raises(CheckpointError, match="maskwright export"):
        open_run(path)
    export_run(path)
    assert open_run(path).step == 4


def test_a_plug_in_that_is_gone_is_said_as_in_any_recipe(path):
    with pytest.raises(RecipeError, match="no plug-in is named 'mlmm'"):
        recipe_of_run(record_with(path, {"name": "mlmm"}), "run.json")
