"""A run that changed its course to keep its hours is repeated to the bit from any checkpoint."""

import shutil
import time

import pytest
from tests.resume.conftest import outcome

from maskwright.core.records.run import RunRecord
from maskwright.training.engine import hours
from maskwright.training.step import Stepper

SECONDS = 3.0
BUDGET = {"hours": SECONDS / 3600}
KEEPING = {"every_steps": 1, "every_minutes": None, "keep_last": 10_000}


@pytest.fixture
def slow(monkeypatch):
    """Make steps take 20 ms, and 60 from the 20th on."""
    forward_backward = Stepper.forward_backward

    def slower(self, step, numbers, batches):
        time.sleep(0.02 if step < 20 else 0.06)
        return forward_backward(self, step, numbers, batches)

    monkeypatch.setattr(Stepper, "forward_backward", slower)


def test_hours_are_kept_and_what_was_changed_is_repeated_to_the_bit(train, tmp_path, slow, monkeypatch):
    straight = tmp_path / "straight"
    loop = train(straight, budget=BUDGET, checkpoints=KEEPING)
    plan = RunRecord.read(straight / "run.json").plan
    assert loop.state.seconds == pytest.approx(SECONDS, rel=0.1)  # steps of 60 ms, four of them ahead of any change
    assert plan.changes and plan.total_steps == loop.state.step == sum(plan.changes[-1].phase_steps)
    assert plan.total_steps < sum(plan.planned_steps)

    # What a clock would have decided next is not to be repeated.
    monkeypatch.setattr(hours, "TOLERATED_SHARE", float("inf"))
    for step in (plan.changes[0].step - 2, plan.changes[-1].step + 1):
        resumed = tmp_path / f"resumed-{step}"
        shutil.copytree(straight, resumed)
        for later in range(step + 1, loop.state.step + 1):
            shutil.rmtree(resumed / "checkpoints" / f"step-{later:06d}")
        assert train(resumed, budget=BUDGET, checkpoints=KEEPING).state.step == loop.state.step
        assert outcome(resumed) == outcome(straight)
