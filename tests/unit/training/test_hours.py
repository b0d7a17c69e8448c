"""Hours are kept by a machine whose speed changes on the way; the machine is a function here."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from maskwright.training.engine.hours import HourKeeper
from maskwright.training.timeline import Course

HOURS = 3600.0
Pace = Callable[[float, np.random.Generator], float]
"""How much slower the machine is than it was when it was timed: at a share of the hours, with chance."""

PACES: dict[str, Pace] = {
    "as it was timed": lambda done, chance: 1.0,
    "busy when it was timed": lambda done, chance: 0.17,
    "half as fast from the middle on": lambda done, chance: 2.0 if done > 0.5 else 1.0,
    "twice as fast from two thirds on": lambda done, chance: 0.5 if done > 2 / 3 else 1.0,
    "half as fast near the end": lambda done, chance: 2.0 if done > 0.9 else 1.0,
    "shaky": lambda done, chance: float(chance.lognormal(0.0, 0.3)),
    "slow for a while": lambda done, chance: 3.0 if 0.3 < done < 0.6 else 1.0,
    "up and down": lambda done, chance: 1.5 + math.sin(20 * done),
}


def trained(pace: Pace, phase_steps: tuple[int, ...], seed: int = 0) -> tuple[float, Course, int]:
    """Return the time that a run took, its course, and how often that was changed."""
    chance = np.random.default_rng(seed)
    shares = tuple(float(index + 1) for index in range(len(phase_steps)))
    course = Course(phase_steps)
    keeper = HourKeeper(HOURS, shares, course)
    step, elapsed, num_changes = 0, 0.0, 0
    while step < course.num_steps:
        phase = course.position_of(step).phase
        foreseen = HOURS * shares[phase] / sum(shares) / phase_steps[phase]
        seconds = foreseen * pace(elapsed / HOURS, chance)
        step, elapsed = step + 1, elapsed + seconds
        change = None if step == course.num_steps else keeper.decide(step, elapsed, seconds)
        if change is not None:
            course.change(*change)
            num_changes += 1
    return elapsed, course, num_changes


@pytest.mark.parametrize("phase_steps", [(1000,), (300, 2000), (600, 100, 400)], ids=str)
@pytest.mark.parametrize("name", PACES)
def test_a_run_ends_within_three_percent_of_its_hours_and_its_learning_rate_at_its_end(name, phase_steps):
    elapsed, course, num_changes = trained(PACES[name], phase_steps)
    assert elapsed == pytest.approx(HOURS, rel=0.03)
    assert course.position_of(course.num_steps - 1).schedule_progress > 0.99
    assert num_changes < 300


def test_a_machine_that_stays_as_it_was_changes_nothing():
    assert trained(PACES["as it was timed"], (500, 500))[2] == 0


def test_a_phase_keeps_to_its_share_of_the_time():
    _, course, _ = trained(PACES["half as fast from the middle on"], (1000, 1000))
    first, second = course.phase_steps
    assert first == pytest.approx(1000, rel=0.03), "a third of the time, before the machine became slow"
    assert second == pytest.approx(1000 * (0.25 + 0.75 / 2), rel=0.05)


def test_nothing_is_decided_before_the_changes_that_a_resumed_run_repeats():
    course = Course((1000,))
    keeper = HourKeeper(HOURS, (1.0,), course, not_before=50)
    changes = [keeper.decide(step, 10.0 * step, 10.0) for step in range(1, 60)]
    assert not any(changes[:49]) and any(changes[49:])


def test_a_stall_costs_its_own_time_and_ends_nothing():
    course = Course((1000, 50, 950))
    keeper = HourKeeper(2000.0, (1000.0, 50.0, 950.0), course)
    step, elapsed = 0, 0.0
    while step < course.num_steps:
        # Steps of a second but for one in the first phase, and the first two of the second.
        seconds = 40.0 if step in (700, course.first_step(1), course.first_step(1) + 1) else 1.0
        step, elapsed = step + 1, elapsed + seconds
        change = None if step == course.num_steps else keeper.decide(step, elapsed, seconds)
        if change is not None:
            course.change(*change)
    assert course.phase_steps[0] == pytest.approx(960, abs=10)
    assert course.phase_steps[1] >= 10 and elapsed == pytest.approx(2000, rel=0.03)


def test_the_pace_is_not_that_of_a_stall():
    keeper = HourKeeper(1000.0, (1.0,), Course((1000,)))
    assert not any(keeper.decide(step, float(step), 1.0) for step in range(1, 51))
    change = keeper.decide(51, 90.0, 40.0)
    assert change is not None
    begin, phase_steps = change
    assert (begin, phase_steps) == (54, (961,)), "40 s are lost, and the other steps take a second as before"
