"""Models exported by words seen: the same ones, with the same weights, whether or not the run was stopped."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from maskwright.core.records.run import RunRecord

MARKS = (300, 700, 900, 1_000, 3_400)
SAVES = {"every_steps": 1, "every_minutes": None, "keep_last": 20, "by_words": list(MARKS)}


def exports(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {folder.name: load_file(folder / "model.safetensors") for folder in sorted((run / "babylm").iterdir())}


def words_by_step(run: Path) -> dict[int, int]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["words"] for line in lines}


@pytest.fixture
def straight(train, tmp_path) -> Path:
    train(tmp_path / "straight", checkpoints=SAVES)
    return tmp_path / "straight"


def test_every_mark_on_the_way_is_exported_from_the_nearest_step(straight, corpus):
    words = words_by_step(straight)
    assert list(words.values()) == sorted(words.values())
    last = max(words.values())
    # A pass over the text has as many words as the text: counted by tokens or by steps, it is the same.
    planned = RunRecord.read(straight / "run.json").plan.total_words
    assert last == pytest.approx(planned, rel=0.02)
    found = exports(straight)
    assert len(found) >= 4
    assert set(found) == {f"chck_{mark / 1e6:g}M" for mark in MARKS if mark <= last}
    for mark in MARKS:
        if mark <= last:
            nearest = min(words, key=lambda step: abs(words[step] - mark))
            saved = load_file(straight / "checkpoints" / f"step-{nearest:06d}" / "model.safetensors")
            weights = found[f"chck_{mark / 1e6:g}M"]
            embedding = next(name for name in weights if name.endswith("tok_embeddings.weight"))
            assert torch.equal(weights[embedding], saved["encoder.token_embedding.weight"]), (mark, nearest)


def test_an_export_is_a_model_folder(straight):
    folder = next((straight / "babylm").iterdir())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForMaskedLM.from_pretrained(folder)
    assert model(**tokenizer("the court", return_tensors="pt")).logits.isfinite().all()


@pytest.mark.parametrize("stop_at", [1, 4])
def test_stopped_and_resumed_the_exports_are_the_same(train, tmp_path, straight, stop_at):
    stopped = tmp_path / "stopped"
    train(stopped, stop_at_call=stop_at, checkpoints=SAVES)
    train(stopped, checkpoints=SAVES)
    expected, found = exports(straight), exports(stopped)
    assert set(found) == set(expected)
    for name, weights in expected.items():
        assert all(torch.equal(weights[key], found[name][key]) for key in weights), name
    assert words_by_step(stopped) == words_by_step(straight)


def test_a_lost_checkpoint_loses_no_export(train, tmp_path, straight):
    """Killed after an export and before the save of its step, a run exports again, and the same."""
    stopped = tmp_path / "stopped"
    train(stopped, stop_at_call=5, checkpoints=SAVES)
    before = exports(stopped)
    newest = stopped / "checkpoints" / "step-000005" / "COMMIT"
    newest.unlink()
    train(stopped, checkpoints=SAVES)
    after = exports(stopped)
    assert set(before) <= set(after) == set(exports(straight))
    for name, weights in before.items():
        assert all(torch.equal(weights[key], after[name][key]) for key in weights), name


def test_without_marks_nothing_is_exported(train, tmp_path):
    train(tmp_path / "run", budget={"steps": 2})
    assert not (tmp_path / "run" / "babylm").exists()
