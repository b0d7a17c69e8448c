"""The loop: its schedule, and what it refuses."""

import math

import pytest
import torch
from transformers import get_constant_schedule_with_warmup, get_linear_schedule_with_warmup

from maskwright.core.errors import EvaluationError, MemoryShortage
from maskwright.evaluation.fine_tuning.loop import TrainingTally, explain_memory_errors, schedule_factor
from maskwright.evaluation.fine_tuning.settings import FineTuning


@pytest.mark.parametrize("warmup_fraction", [0.0, 0.06, 0.5])
@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_the_schedule_is_that_of_transformers(schedule, warmup_fraction):
    settings = FineTuning(schedule=schedule, warmup_fraction=warmup_fraction)
    num_steps = 37
    num_warmup = math.ceil(warmup_fraction * num_steps)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    if schedule == "linear":
        theirs = get_linear_schedule_with_warmup(optimizer, num_warmup, num_steps)
    else:
        theirs = get_constant_schedule_with_warmup(optimizer, num_warmup)
    for step in range(num_steps):
        assert schedule_factor(step, num_steps, settings) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_a_loss_that_is_not_finite_stops_before_anything_is_scored():
    tally = TrainingTally(num_steps=5)
    tally.add(torch.tensor(1.0))
    tally.step_done(4)
    tally.add(torch.tensor(float("nan")))
    tally.step_done(4)
    with pytest.raises(EvaluationError, match=r"lower training\.learning_rate"):
        tally.summarize()


def test_the_mean_loss_and_the_counts():
    tally = TrainingTally(num_steps=21)
    for step in range(21):
        tally.add(torch.tensor(float(step)))
        tally.step_done(2)
    trained = tally.summarize()
    assert trained.losses == (9.5, 20.0)
    assert (trained.num_steps, trained.num_examples) == (21, 42)
    assert trained.examples_per_second > 0


def test_running_out_of_memory_says_what_to_lower():
    with (
        pytest.raises(MemoryShortage, match=r"training.tokens_per_pass=4096 \(results stay the same\)"),
        explain_memory_errors(FineTuning()),
    ):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
    with pytest.raises(RuntimeError, match="shapes"), explain_memory_errors(FineTuning()):
        raise RuntimeError("shapes differ")
