"""What strategies learn is in the checkpoint: a run that was stopped ends as one that was not."""

import pytest
from tests.resume.conftest import outcome

OBJECTIVES = {
    "adaptive": {"name": "mlm", "strategy": {"name": "adaptive", "refresh_steps": 3}},
    "adaptive_late_mask": {"name": "late_mask", "strategy": {"name": "adaptive", "refresh_steps": 4}},
    "self_evolution": {"name": "self_evolution"},
    "pmi": {"name": "mlm", "strategy": {"name": "pmi", "least_count": 3}},
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_stopped_and_resumed_it_is_the_same(train, tmp_path, name):
    changes = {"phases": [{"objective": OBJECTIVES[name], "sequence_length": 32}]}
    train(tmp_path / "straight", **changes)
    train(tmp_path / "stopped", stop_at_call=5, **changes)
    train(tmp_path / "stopped", **changes)
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "straight")
