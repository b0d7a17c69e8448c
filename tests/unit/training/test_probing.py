"""Probes are asked when the recipe says so, and less often where they would cost too much."""

from types import SimpleNamespace

import pytest
import torch

from maskwright.core.ranks import Ranks
from maskwright.training.model import build_model
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.timeline import Course
from maskwright.training.watching.probing import Occasions, Probing, affordable_strides, decide_strides


def loss_of_one(model, phase, dtype) -> dict[str, float]:
    return {"held_out_loss": 1.0}


@pytest.mark.parametrize(
    ("num_steps", "every_steps", "num_probes", "steps"),
    [
        (12, 4, None, [4, 8, 12]),
        (10, 4, None, [4, 8, 10]),
        (12, None, 3, [4, 8, 12]),
        (10, None, 4, [3, 5, 8, 10]),
        (3, None, 10, [1, 2, 3]),
        (10, None, None, []),
    ],
)
def test_occasions(num_steps, every_steps, num_probes, steps):
    occasions = Occasions(Course((num_steps,)), every_steps, num_probes)
    numbers = {step: occasions.number(step) for step in range(1, num_steps + 1)}
    assert [step for step, number in numbers.items() if number] == steps
    assert [number for number in numbers.values() if number] == list(range(1, len(occasions) + 1))


def test_a_thinned_probe_measures_the_last_time_and_every_nth_before_it():
    strides = {"a": 1, "b": 4, "c": 10, "d": 0, "loss": 3}
    probing = Probing(
        dict.fromkeys(("a", "b", "c", "d")), Occasions(Course((10,)), 1, None), strides, loss_of_one, torch.float32
    )
    due = {step: probing.due(step) for step in range(1, 11)}
    assert [step for step in due if "a" in due[step]] == list(range(1, 11))
    assert [step for step in due if "b" in due[step]] == [2, 6, 10]
    assert [step for step in due if "c" in due[step]] == [10]
    assert not any("d" in names for names in due.values())
    assert [step for step in due if "loss" in due[step]] == [1, 4, 7, 10]
    assert Probing({}, Occasions(Course((10,)), 1, None), {}, loss_of_one, torch.float32).due(10) == ["loss"]
    assert Probing({}, Occasions(Course((10,)), None, None), {}, loss_of_one, torch.float32).due(10) == []


@pytest.mark.parametrize(
    ("seconds", "budget", "strides"),
    [
        ({"held_out": 1.0, "minimal_pairs": 3.0}, 100.0, {"held_out": 1, "minimal_pairs": 1}),
        ({"held_out": 1.0, "minimal_pairs": 3.0}, 16.0, {"held_out": 1, "minimal_pairs": 5}),
        ({"held_out": 1.0, "minimal_pairs": 3.0}, 11.0, {"held_out": 1, "minimal_pairs": 0}),
        ({"held_out": 1.0, "minimal_pairs": 0.1}, 5.0, {"held_out": 2, "minimal_pairs": 0}),
        ({"held_out": 1.0, "minimal_pairs": 0.1}, 0.5, {"held_out": 10, "minimal_pairs": 0}),
    ],
)
def test_what_probes_may_cost_is_shared_out_in_their_order(seconds, budget, strides):
    assert affordable_strides(10, seconds, budget) == strides


@pytest.mark.parametrize("num_occasions", [1, 7, 10, 100])
@pytest.mark.parametrize("budget", [1.0, 3.3, 20.0, 71.0])
def test_the_bound_holds(num_occasions, budget):
    seconds = {"held_out": 0.9, "minimal_pairs": 2.3}
    strides = affordable_strides(num_occasions, seconds, budget)
    probing = Probing(
        dict.fromkeys(seconds),
        Occasions(Course((num_occasions,)), 1, None),
        strides | {"loss": 0},
        loss_of_one,
        torch.float32,
    )
    cost = sum(seconds[name] for step in range(1, num_occasions + 1) for name in probing.due(step))
    assert cost <= max(budget, seconds["held_out"])


def test_what_early_stopping_reads_is_never_thinned():
    strides = affordable_strides(10, {"held_out": 1.0, "minimal_pairs": 0.1}, 5.0, fixed={"held_out"})
    assert strides == {"held_out": 1, "minimal_pairs": 0}


class Slow:
    """A probe that takes its time, by a clock that nothing else moves."""

    now = 0.0

    def __init__(self, seconds: float) -> None:
        self.seconds, self.calls = seconds, 0

    def __call__(self, encoder, vocabulary_head, dtype, reader) -> dict[str, float]:
        self.calls += 1
        Slow.now += self.seconds
        return {"held_out_cross_entropy": 1.0}


@pytest.fixture
def decide(raw_recipe, corpus, monkeypatch):
    """Return a function from a recipe's section `probes` and the probes to what is decided for a run of one second."""
    monkeypatch.setattr("maskwright.training.watching.probing.time", SimpleNamespace(perf_counter=lambda: Slow.now))

    def decided(section, **probes) -> dict[str, int]:
        recipe = parse_recipe({**raw_recipe, "probes": section}, "test")
        model = build_model(recipe, corpus.vocabulary)
        return decide_strides(recipe, probes, model, torch.float32, 1.0, Course((12,)), 256, Ranks())

    return decided


def test_slow_probes_are_thinned_and_it_is_said(decide, capsys):
    held_out, pairs = Slow(0.001), Slow(0.05)
    strides = decide({"every_steps": 1, "max_share": 0.25}, held_out=held_out, minimal_pairs=pairs)
    assert strides["loss"] == strides["held_out"] == 1
    assert strides["minimal_pairs"] == 12  # 0.25 s are enough for one call of 0.05 s, after those of the others
    assert (held_out.calls, pairs.calls) == (2, 1)
    said = capsys.readouterr().err
    assert "over probes.max_share (25%)" in said
    assert "held-out loss as asked; held-out clozes as asked; minimal pairs" in said


def test_probes_within_the_bound_are_left_alone(decide, capsys):
    assert decide({"every_steps": 4, "max_share": 0.5}, held_out=Slow(0.001)) == {"loss": 1, "held_out": 1}
    assert capsys.readouterr().err == ""


def test_a_loss_that_is_not_needed_to_stop_is_thinned_and_measured_at_the_end(decide):
    """A forward pass over 256 of 12 times 512 tokens takes 1.4 % of the time."""
    assert decide({"every_steps": 1, "max_share": 0.06}) == {"loss": 3}
    assert decide({"every_steps": 1, "max_share": 0.001}) == {"loss": 12}


def test_a_bound_that_early_stopping_breaks_is_told(decide, capsys):
    section = {"every_steps": 1, "max_share": 0.01, "stop_after_no_improvement": 3}
    assert decide(section, held_out=Slow(0.01)) == {"loss": 1, "held_out": 12}
    assert "lower probes.tokens" in capsys.readouterr().err


def test_what_a_step_measures_does_not_change_when_the_run_becomes_longer_or_shorter():
    course = Course((100,))
    probing = Probing({"a": Slow(0.0)}, Occasions(course, 5, None), {"a": 3}, loss_of_one, torch.float32)
    before = {step: probing.due(step) for step in range(1, 50)}
    course.change(50, (88,))  # two occasions fewer, which is no multiple of the stride
    assert {step: probing.due(step) for step in range(1, 50)} == before
    assert "a" in probing.due(88) and "a" in probing.due(70)
