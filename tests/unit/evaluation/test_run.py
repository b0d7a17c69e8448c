"""From a model folder to records on disk."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from maskwright.core.errors import EvaluationError, RecipeError
from maskwright.core.files import sha256_of_file
from maskwright.core.records import EvaluationRecord
from maskwright.evaluation.run import build_task, evaluate
from maskwright.evaluation.scorer import MaskedLanguageModel
from maskwright.evaluation.tasks.base import Task, TaskConfig, TaskResult
from maskwright.export.folder import export_model


class CountTokens(Task):
    """A task outside the package."""

    class Config(TaskConfig):
        text: str = "the dog"

    def evaluate(self, model, corpus, seed):
        return TaskResult({"num_tokens": len(model.tokenizer.encode(self.config.text)) + seed})


@pytest.fixture
def model_folder(model: MaskedLanguageModel, tmp_path: Path) -> Path:
    """An exported tiny model."""
    export_model(model.encoder, model.head, model.tokenizer, tmp_path / "model")
    return tmp_path / "model"


def test_every_task_leaves_its_record(model_folder: Path, corpus, tmp_path: Path):
    out = tmp_path / "scores"
    (record,) = evaluate(model_folder, corpus, {"held_out": {"max_tokens": 500, "num_examples": 2}}, 5, out)
    assert EvaluationRecord.read(out / "held_out.json") == record
    assert record.settings["seed"] == 5
    assert record.settings["max_tokens"] == 500
    assert record.model_sha256 == sha256_of_file(model_folder / "model.safetensors")
    assert record.data_sha256["corpus"] == corpus.manifest.content_sha256
    assert len(record.examples) == 2


def test_equal_seeds_give_equal_records(model_folder: Path, corpus, tmp_path: Path):
    first, second = (
        evaluate(model_folder, corpus, {"held_out": {}}, 5, tmp_path / name)[0].model_copy(update={"seconds": 0.0})
        for name in ("a", "b")
    )
    assert first == second


def test_a_task_outside_the_package_needs_no_edit_in_it(model_folder: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "my_tasks", SimpleNamespace(CountTokens=CountTokens))
    (record,) = evaluate(model_folder, None, {"my_tasks:CountTokens": {"text": "dog"}}, 0, tmp_path)
    assert record.scores["num_tokens"] == 3
    assert (tmp_path / "my_tasks.CountTokens.json").exists()


def test_unknown_tasks_and_settings_name_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'held_out'"):
        build_task("heldout", {})
    with pytest.raises(RecipeError, match="did you mean 'max_tokens'"):
        build_task("held_out", {"max_token": 3})
    with pytest.raises(RecipeError, match="mask_rate"):
        build_task("held_out", {"mask_rate": 1.5})


def test_a_task_that_needs_a_corpus_says_so(model_folder: Path, tmp_path: Path):
    with pytest.raises(EvaluationError, match="--corpus"):
        evaluate(model_folder, None, {"held_out": {}}, 0, tmp_path)
