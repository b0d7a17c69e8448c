"""Checkpoints: whole or absent, checked, rotated."""

import json
import shutil

import pytest
import torch

from maskwright.core.errors import CheckpointError, StorageError
from maskwright.training.checkpoint import Checkpoints, TrainingState, damage, load_model, load_state


def model(value: float = 0.0) -> dict[str, torch.Tensor]:
    return {"encoder.weight": torch.full((3, 4), value), "encoder.bias": torch.full((4,), value)}


def save(checkpoints: Checkpoints, step: int, best_step: int | None = None):
    state = TrainingState(step=step, num_tokens=10 * step, num_text_tokens=9 * step, seconds=1.0, best_step=best_step)
    return checkpoints.save(model(float(step)), {"adamw/encoder.weight/exp_avg": torch.ones(3, 4)}, state)


@pytest.fixture
def checkpoints(tmp_path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", keep_last=2, keep_best=True)


def test_what_is_saved_is_loaded(checkpoints):
    path = save(checkpoints, 5)
    assert damage(path) is None
    loaded = model()
    load_model(path, loaded, 0)
    assert torch.equal(loaded["encoder.weight"], torch.full((3, 4), 5.0))
    assert load_state(path).num_tokens == 50


def test_a_state_of_version_0_1_keeps_its_best_step_and_begins_to_judge_again():
    """Its figure was that of clozes, which says nothing of the objective's own loss."""
    before = {"best_step": 8, "best_held_out_loss": 3.2, "num_probes_without_improvement": 2}
    state = TrainingState.model_validate(
        {"step": 12, "num_tokens": 120, "num_text_tokens": 100, "seconds": 1.0, "last_loss": 3.5, **before}
    )
    assert (state.best_step, state.lowest_held_out_loss, state.num_probes_without_improvement) == (8, None, 0)


def test_the_last_ones_and_the_best_are_kept(checkpoints):
    for step in (1, 2, 3, 4, 5):
        save(checkpoints, step, best_step=2 if step >= 2 else None)
    assert checkpoints.steps() == [2, 4, 5]
    assert not list(checkpoints.folder.glob(".*"))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json", "COMMIT"]
)
@pytest.mark.parametrize("harm", ["flip", "truncate", "zero_tail", "append", "delete"])
def test_every_damage_is_found_and_the_one_before_is_used(checkpoints, capsys, name, harm):
    older = save(checkpoints, 1)
    newer = save(checkpoints, 2)
    path = newer / name
    content = bytearray(path.read_bytes())
    if harm == "flip":
        content[len(content) // 2] ^= 1
    elif harm == "truncate":
        content = content[:-1]
        if name == "COMMIT":  # its line end carries nothing
            content = content[:-1]
    elif harm == "zero_tail":
        content[-3:] = b"\0\0\0"
    elif harm == "append":
        content += b"x"
    path.unlink()
    if harm != "delete":
        path.write_bytes(content)
    assert damage(newer) is not None
    assert checkpoints.newest_whole() == older
    assert "step-000002 is passed over" in capsys.readouterr().err


@pytest.mark.parametrize("is_weight", [True, False], ids=["weight", "optimizer"])
def test_a_checkpoint_that_is_not_finite_is_passed_over(checkpoints, capsys, is_weight):
    older, state = save(checkpoints, 1), TrainingState(step=2, num_tokens=0, num_text_tokens=0, seconds=0.0)
    bad = torch.tensor([1.0, float("nan")])
    checkpoints.save({"bias": bad if is_weight else bad[:1]}, {"adamw/bias/exp_avg": bad}, state)
    assert checkpoints.newest_whole() == older
    assert "step-000002 is passed over" in capsys.readouterr().err


def test_what_was_passed_over_takes_no_place(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep_last=1, keep_best=False)
    found = []
    for step in (5, 1, 2, 6):
        save(checkpoints, step)
        found.append(checkpoints.steps())
    assert found == [[5], [1, 5], [2, 5], [6]]


def test_a_save_that_fails_leaves_what_was_there(checkpoints, monkeypatch):
    older = save(checkpoints, 1)

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("maskwright.training.checkpoint.save_file", full_disk)
    with pytest.raises(StorageError, match="No space left"):
        save(checkpoints, 2)
    assert checkpoints.newest_whole() == older
    assert [folder.name for folder in checkpoints.folder.iterdir()] == ["step-000001"]


def test_too_little_room_is_noticed_before_writing(checkpoints, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(StorageError, match="for a checkpoint"):
        save(checkpoints, 1)
    assert checkpoints.steps() == []


def test_weights_of_another_model_are_refused_by_name(checkpoints):
    path = save(checkpoints, 1)
    with pytest.raises(CheckpointError, match=r"encoder\.weight has shape"):
        load_model(path, {**model(), "encoder.weight": torch.zeros(2, 2)}, 0)
    with pytest.raises(CheckpointError, match="extra is missing"):
        load_model(path, {**model(), "extra": torch.zeros(2)}, 0)


def test_the_manifest_names_every_file(checkpoints):
    path = save(checkpoints, 1)
    manifest = json.loads((path / "manifest.json").read_text())
    assert set(manifest) | {"manifest.json", "COMMIT"} == {file.name for file in path.iterdir()}
