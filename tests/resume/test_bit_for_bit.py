"""Stopped at any step and resumed, a run ends with the weights of one that was never stopped, to the last bit."""

import pytest
import torch
from tests.resume.conftest import outcome

from maskwright.training.watching.held_out_loss import HeldOutLoss

NUM_STEPS = 12


@pytest.fixture(params=["adamw", "muon"])
def optimizer(request) -> dict[str, object]:
    return {"name": request.param, "learning_rate": 1e-2}


def test_stopped_at_every_step(train, tmp_path, optimizer):
    train(tmp_path / "straight", optimizer=optimizer)
    straight = outcome(tmp_path / "straight")
    assert len(straight.metrics) == NUM_STEPS
    for step in range(1, NUM_STEPS):
        folder = tmp_path / f"stopped-{step}"
        stopped = train(folder, stop_at_call=step, optimizer=optimizer)
        assert stopped.state.step == step
        assert stopped.interrupted_by is not None
        assert train(folder, optimizer=optimizer).state.step == NUM_STEPS
        assert outcome(folder) == straight


def test_stopped_after_every_single_step(train, tmp_path):
    train(tmp_path / "straight")
    for step in range(1, NUM_STEPS + 1):
        assert train(tmp_path / "stopped", stop_at_call=1).state.step == step
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "straight")


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": {"device": "cpu", "dtype": "bfloat16", "compile": "off"}},
        {"encoder": {"family": "bert", "size": None, "overrides": {
            "num_layers": 2, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 64, "hidden_dropout": 0.2}}},
        {"encoder": {"family": "hugging_face", "size": None, "overrides": {
            "model_type": "roberta", "num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2,
            "intermediate_size": 24, "hidden_dropout_prob": 0.2}}},
        {"phases": [{"objective": {"name": "mlm", "rate": {"start": 0.5, "end": 0.2}}, "sequence_length": 32}]},
        {"phases": [{"objective": {"name": "late_mask"}, "sequence_length": 32, "share": 3},
                    {"objective": {"name": "mlm"}, "sequence_length": 32}]},
    ],
    ids=["bfloat16", "bert_with_dropout", "roberta_of_transformers_with_dropout", "falling_rate",
         "late_masks"],
)  # fmt: skip
def test_every_kind_of_run(train, tmp_path, changes):
    train(tmp_path / "straight", **changes)
    train(tmp_path / "stopped", stop_at_call=7, **changes)
    train(tmp_path / "stopped", **changes)
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "straight")


@pytest.mark.slow
def test_compiled(train, tmp_path):
    torch.set_num_threads(2)
    changes = {"engine": {"device": "cpu", "dtype": "bfloat16", "compile": "on"}, "budget": {"steps": 4}}
    train(tmp_path / "straight", **changes)
    train(tmp_path / "stopped", stop_at_call=2, **changes)
    train(tmp_path / "stopped", **changes)
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "straight")


def test_a_damaged_checkpoint_costs_steps_but_changes_nothing(train, tmp_path):
    train(tmp_path / "straight")
    train(tmp_path / "stopped", stop_at_call=8)
    newest = tmp_path / "stopped" / "checkpoints" / "step-000008" / "model.safetensors"
    content = bytearray(newest.read_bytes())
    content[-5] ^= 64
    newest.write_bytes(content)
    train(tmp_path / "stopped")
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "straight")


def test_a_run_out_of_patience_stays_stopped(train, tmp_path, monkeypatch):
    """Only in the last phase: what comes before it is trained to its end."""
    monkeypatch.setattr(HeldOutLoss, "__call__", lambda *_: {"held_out_loss": 1.0})
    probes = {"every_steps": 1, "stop_after_no_improvement": 3, "max_share": None}
    first = train(tmp_path / "run", probes=probes)
    assert first.is_out_of_patience
    assert first.state.step == 8 + 4, "a first one, and three that are not lower, from the second phase on"
    assert train(tmp_path / "run", probes=probes).state.step == first.state.step
