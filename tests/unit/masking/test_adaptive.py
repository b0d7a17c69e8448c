"""Adaptive weights follow accuracy, and which a step has is a function of the step."""

import dataclasses

import pytest
import torch
from tests.conftest import phase_start_of

from maskwright.core.batches import UNUSED
from maskwright.core.randomness import torch_generator
from maskwright.masking.phase_start import PhaseStart
from maskwright.masking.strategies.adaptive import Adaptive


@pytest.fixture
def start(corpus, tmp_path) -> PhaseStart:
    return phase_start_of(corpus, tmp_path, num_steps=20)


@pytest.fixture
def adaptive(vocabulary, start) -> Adaptive:
    strategy = Adaptive(Adaptive.Config(refresh_steps=5), vocabulary)
    strategy.begin(start)
    return strategy


def weights_at(adaptive, batch, step) -> torch.Tensor:
    is_text_T = torch.ones_like(batch.marks["word"])
    return adaptive.units(batch, is_text_T, torch_generator(0, "test"), step / 20).weights_T


def show(adaptive, token, num_right, num_wrong):
    targets_M = torch.tensor([token] * (num_right + num_wrong) + [UNUSED])
    adaptive.observe(targets_M, torch.tensor([True] * num_right + [False] * num_wrong + [True]))


def test_new_weights_are_those_of_the_paper(adaptive, vocabulary, batch):
    easy, hard = (token for token in batch.token_ids_T.unique().tolist()[-2:])
    for step in range(1, 4):
        show(adaptive, easy, 9, 1)
        show(adaptive, hard, 1, 9)
        adaptive.after_step(step)
    scored, right = 30, {easy: 27, hard: 3}
    raw = {token: 0.2 + 0.8 * (1 - (count + 0.5) / (scored + 1)) for token, count in right.items()}
    others = 0.2 + 0.8 * 0.5
    num_text = vocabulary.size - len(vocabulary.special_ids)
    mean = (sum(raw.values()) + (num_text - 2) * others) / num_text
    assert adaptive.weights_2V[1, easy] == pytest.approx(raw[easy] / mean)
    assert adaptive.weights_2V[1, hard] == pytest.approx(raw[hard] / mean)
    assert (adaptive.weights_2V[0] == 1).all()
    assert int(adaptive.switch_step) == 5


def test_weights_change_at_a_step_that_is_a_multiple_whenever_batches_are_made(adaptive, batch):
    """Counts close two steps before, so the batches that are read ahead are those made in time."""
    token = int(batch.token_ids_T[5])
    ahead, in_time = {}, {}
    for step in range(20):
        for coming in (step, step + 1, step + 2):  # what the loader may be making while step `step` runs
            if coming < 20:
                ahead.setdefault(coming, weights_at(adaptive, batch, coming))
        in_time[step] = weights_at(adaptive, batch, step)
        show(adaptive, token, 0, 1 + step)
        adaptive.after_step(step + 1)
    for step in range(20):
        assert torch.equal(ahead[step], in_time[step]), f"step {step} depends on when its batches are made"
    changes = [step for step in range(1, 20) if not torch.equal(in_time[step], in_time[step - 1])]
    assert changes == [5, 10, 15]


def test_saved_at_any_step_it_goes_on_the_same(adaptive, batch, vocabulary, start):
    token = int(batch.token_ids_T[5])
    for step in range(20):
        resumed = Adaptive(Adaptive.Config(refresh_steps=5), vocabulary)
        resumed.load_state_dict({name: value.clone() for name, value in adaptive.state_dict().items()})
        resumed.begin(dataclasses.replace(start, was_begun=step > 0))
        for coming in (step, step + 1):
            assert torch.equal(weights_at(resumed, batch, coming), weights_at(adaptive, batch, coming))
        for strategy in (adaptive, resumed):
            show(strategy, token, step % 3, 2)
            strategy.after_step(step + 1)
        assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in adaptive.state_dict().items())


def test_a_phase_after_goes_on_with_the_weights(adaptive, batch, start):
    for step in range(1, 6):
        show(adaptive, int(batch.token_ids_T[5]), 0, 3)
        adaptive.after_step(step)
    learned = adaptive.weights_2V[1].clone()
    for _ in range(2):  # twice: a run that was stopped between begin and the first step begins again
        adaptive.begin(start)
        assert torch.equal(weights_at(adaptive, batch, 0), learned[batch.token_ids_T])
