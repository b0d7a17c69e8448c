"""What fills masks beyond the encoder goes with an export: written, checked and read again, or said to be missing."""

import json
import shutil
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import raw_record

from maskwright.core.errors import CheckpointError
from maskwright.core.files import sha256_of_file
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder, record_of
from maskwright.models.late_decoder import LateReader
from maskwright.training.export_checkpoint import export_run, reader_of_model
from maskwright.training.loop import TrainingLoop
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.run import assemble_run
from maskwright.training.trained_run import open_run

LATE = {"name": "late_mask", "decoder_layers": 1}


@pytest.fixture(scope="module")
def original(corpus, tmp_path_factory):
    """A run of two steps of late masks, then two of mlm."""
    sizes = {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "feed_forward_size": 16}
    raw = {
        "name": "late",
        "tokenizer": {"vocabulary_size": 120},
        "encoder": {"size": None, "overrides": sizes},
        "budget": {"steps": 4},
        "phases": [{"objective": objective, "sequence_length": 32} for objective in (LATE, {"name": "mlm"})],
        "batch": {"tokens": 256, "micro_batch_tokens": 256},
        "optimizer": {"learning_rate": 1e-2},
        "engine": {"device": "cpu", "dtype": "float32", "compile": "off"},
        "checkpoints": {"every_steps": 1, "every_minutes": None, "keep_last": 4},
    }
    folder = RunFolder(tmp_path_factory.mktemp("late") / "run")
    TrainingLoop(assemble_run(parse_recipe(raw, "test"), corpus, folder, Ranks(), {})).train()
    return folder.path


@pytest.fixture
def run(original, tmp_path):
    return RunFolder(shutil.copytree(original, tmp_path / "run"))


def require_same(reader, path, step, batch):
    """Compare the states that a reader gives with those of a checkpoint's own."""
    trained = open_run(path, step)
    expected = trained.model.objective.reader(trained.model.encoder)
    assert isinstance(reader, LateReader) and isinstance(expected, LateReader)
    with torch.no_grad():
        found_TD, expected_TD = (each.eval()(batch.input) for each in (reader, expected))
    assert torch.equal(found_TD, expected_TD)


def test_the_reader_lies_beside_the_model_with_a_checksum_and_nothing_is_searched_for(run, batch):
    export_run(run.path, 2)
    export = record_of(run.path).export
    assert export is not None and (export.step, export.reader_sha256) == (2, sha256_of_file(run.reader))
    names = set(load_file(run.reader))
    assert names and all(name.startswith("decoder.") for name in names), "the encoder is in the export already"
    expected = shutil.copytree(run.path, run.path.parent / "copy")
    shutil.rmtree(run.checkpoints)
    require_same(reader_of_model(run.model), expected, 2, batch)


def test_a_run_that_is_named_by_a_relative_path(run, monkeypatch):
    monkeypatch.chdir(run.path.parent)
    for out in (None, Path("run/model")):
        export_run(Path("run"), 2, out=out)
        export = record_of(run.path).export
        assert export is not None and export.reader_sha256 == sha256_of_file(run.reader)
        record_of(run.path).model_copy(update={"export": None}).write(run.run_record)


def test_an_export_whose_encoder_fills_masks_has_no_reader_and_leaves_none_behind(run):
    export_run(run.path, 2)
    export_run(run.path)
    export = record_of(run.path).export
    assert export is not None and (export.step, export.reader_sha256) == (4, None)
    assert not run.reader.exists() and reader_of_model(run.model) is None


def test_another_folder_has_its_reader_beside_it_and_can_be_moved(run, tmp_path, batch):
    export_run(run.path)
    before = run.run_record.read_bytes()
    assert export_run(run.path, 1, out=tmp_path / "first") == tmp_path / "first"
    assert run.run_record.read_bytes() == before and not run.reader.exists()
    assert (tmp_path / "first-reader.safetensors").is_file()
    (tmp_path / "moved").mkdir()
    for name in ("first", "first-reader.safetensors"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    require_same(reader_of_model(tmp_path / "moved" / "first"), run.path, 1, batch)
    (tmp_path / "moved" / "first-reader.safetensors").unlink()
    assert reader_of_model(tmp_path / "moved" / "first") is None


def test_an_altered_reader_is_refused_and_a_missing_one_is_none(run):
    export_run(run.path, 2)
    content = run.reader.read_bytes()
    for damaged in (content[:-1] + bytes([content[-1] ^ 1]), content[:100], b""):
        run.reader.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"reader.safetensors was altered.*\nexpected.*\nto do: .*export RUN"):
            reader_of_model(run.model)
    run.reader.unlink()
    assert reader_of_model(run.model) is None


@pytest.mark.parametrize("damage", ["cut", "no metadata", "another recipe"])
def test_a_damaged_reader_beside_a_folder_is_refused(run, tmp_path, damage):
    model = export_run(run.path, 1, out=tmp_path / "first")
    path = tmp_path / "first-reader.safetensors"
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    elif damage == "no metadata":
        save_file(load_file(path), path)
    else:
        record = json.loads(metadata["run"])
        record["recipe"]["phases"][0]["objective"]["decoder_layers"] = 2
        save_file(load_file(path), path, metadata | {"run": json.dumps(record)})
    said = "holds other tensors" if damage == "another recipe" else "can't be read"
    with pytest.raises(CheckpointError, match=f"first-reader.safetensors {said}"):
        reader_of_model(model)


def test_the_reader_of_another_model_is_refused(run, tmp_path):
    export_run(run.path, 2)
    export_run(run.path, 1, out=tmp_path / "first")
    shutil.copy(tmp_path / "first" / "model.safetensors", run.model / "model.safetensors")
    with pytest.raises(CheckpointError, match="belongs to another model"):
        reader_of_model(run.model)


def test_an_export_of_version_0_1_has_no_reader(run):
    export_run(run.path, 2)
    raw = raw_record(run.run_record)
    del raw["export"]["step"], raw["export"]["reader_sha256"]
    run.run_record.write_text(json.dumps(raw))
    run.reader.unlink()
    assert reader_of_model(run.model) is None
