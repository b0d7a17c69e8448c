"""Budgets become steps, and steps have their position."""

import pytest

from maskwright.training.engine.plan import fix_course
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.timeline import Course, split_by_shares


def test_every_step_has_its_phase_and_progress():
    course = Course((2, 3))
    positions = [course.position_of(step) for step in range(course.num_steps)]
    assert [position.phase for position in positions] == [0, 0, 1, 1, 1]
    assert [position.step_in_phase for position in positions] == [0, 1, 0, 1, 2]
    assert [position.phase_progress for position in positions] == pytest.approx([0, 0.5, 0, 1 / 3, 2 / 3])
    with pytest.raises(IndexError):
        course.position_of(5)


def test_the_learning_rate_begins_anew_with_a_fresh_schedule():
    progress = [position.schedule_progress for position in map(Course((2, 2)).position_of, range(4))]
    assert progress == pytest.approx([0.125, 0.375, 0.625, 0.875])
    course = Course((2, 1, 3), fresh_schedules=(2,))
    progress = [position.schedule_progress for position in map(course.position_of, range(6))]
    assert progress == pytest.approx([1 / 6, 3 / 6, 5 / 6, 1 / 6, 3 / 6, 5 / 6])


def test_shares_are_of_the_budget_in_its_own_unit():
    assert split_by_shares(100, [3, 1], [1, 1]) == (75, 25)
    assert split_by_shares(100, [1, 1], [1, 5]) == (50, 10)
    assert split_by_shares(1, [1, 1], [10, 10]) == (1, 1)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({"steps": 12}, (8, 4)),
        ({"tokens": 512 * 12}, (8, 4)),
        ({"flops": 512 * (100.0 * 8 + 300.0 * 4)}, (13, 2)),
        ({"hours": 2 / 3600}, (13, 3)),
    ],
)
def test_budgets_of_every_unit_become_steps(raw_recipe, budget, expected):
    recipe = parse_recipe({**raw_recipe, "budget": budget}, "test")
    assert fix_course(recipe, [100.0, 300.0], [0.1, 0.2]).phase_steps == expected


def test_fresh_weights_have_a_fresh_schedule_and_a_phase_may_ask_for_one(raw_recipe):
    plain, *_ = raw_recipe["phases"]
    phases = [plain | {"schedule": "fresh"}, plain, plain | {"schedule": "fresh"}, plain | {"weights": "fresh"}]
    recipe = parse_recipe({**raw_recipe, "phases": phases}, "test")
    assert fix_course(recipe, [100.0] * 4, None).fresh_schedules == (2, 3)
    assert recipe.fresh_phases == (3,)


def test_a_change_keeps_what_was_done_and_spreads_the_rest():
    course = Course((10, 10), fresh_schedules=(1,))
    before = [course.position_of(step) for step in range(6)]
    course.change(6, (8, 5))
    assert [course.position_of(step) for step in range(6)] == before
    assert course.planned_steps == (10, 10) and course.phase_steps == (8, 5) and course.num_steps == 13
    positions = [course.position_of(step) for step in range(13)]
    assert [position.phase for position in positions] == [0] * 8 + [1] * 5
    assert [position.phase_progress for position in positions[5:9]] == pytest.approx([0.5, 0.6, 0.8, 0.0])
    assert [position.schedule_progress for position in positions[5:8]] == pytest.approx([0.55, 0.7, 0.9])
    assert positions[-1].schedule_progress == pytest.approx(0.9)
    course.change(7, (20, 5))
    assert course.position_of(6) == positions[6] and course.position_of(7).phase_progress == pytest.approx(0.8)
    assert course.position_of(19).schedule_progress == pytest.approx(1 - 0.2 / 26)


def test_progress_of_the_run_never_goes_back_and_ends_at_one():
    course = Course((30, 30))
    course.change(20, (50, 50))
    course.change(70, (50, 21))
    progress = [course.progress(step) for step in range(course.num_steps + 1)]
    assert progress == sorted(progress) and progress[0] == 0 and progress[-1] == 1


def test_changes_that_were_noted_give_the_course_that_they_made():
    changes = [(4, (9, 6)), (7, (8, 9)), (12, (8, 6))]
    one, other = Course((6, 6)), Course((6, 6), changes=changes)
    for begin, steps in changes:
        one.change(begin, steps)
    assert [one.position_of(step) for step in range(14)] == [other.position_of(step) for step in range(14)]
