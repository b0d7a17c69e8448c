"""Learning-rate schedules at their corners."""

import pytest
from pydantic import ValidationError

from maskwright.optim.schedules import ScheduleConfig


def factors(progresses, **options):
    return [ScheduleConfig(**options).factor(progress) for progress in progresses]


def test_warmup_stable_decay_goes_up_stays_and_comes_down():
    values = factors([0.0, 0.05, 0.1, 0.5, 0.8, 1.0], warmup_fraction=0.1, decay_fraction=0.2)
    assert values == pytest.approx([0.0, 0.5, 1.0, 1.0, 1.0, 0.0])


def test_linear_and_cosine_come_down_over_the_whole_rest():
    linear = factors([0.05, 0.1, 0.55, 1.0], name="linear", warmup_fraction=0.1)
    cosine = factors([0.05, 0.1, 0.55, 1.0], name="cosine", warmup_fraction=0.1)
    assert linear == pytest.approx([0.5, 1.0, 0.5, 0.0])
    assert cosine == pytest.approx([0.5, 1.0, 0.5, 0.0])
    assert factors([0.3], name="cosine", warmup_fraction=0)[0] > factors([0.3], name="linear", warmup_fraction=0)[0]


@pytest.mark.parametrize("name", ["warmup_stable_decay", "linear", "cosine"])
def test_the_last_learning_rate_is_the_final_fraction(name):
    assert factors([1.0], name=name, final_fraction=0.1) == pytest.approx([0.1])


def test_no_warmup_begins_at_the_peak_and_no_decay_stays_there():
    assert factors([0.0, 1.0], warmup_fraction=0, decay_fraction=0) == [1.0, 1.0]


def test_more_than_the_whole_run_is_refused():
    with pytest.raises(ValidationError, match="at most 1 fits"):
        ScheduleConfig(warmup_fraction=0.5, decay_fraction=0.6)
