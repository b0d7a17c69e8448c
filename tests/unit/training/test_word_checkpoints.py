"""The counts of words at which a model is exported."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from maskwright.training.watching.word_checkpoints import BABYLM_MARKS, WordMarks, marks_of, name_of_mark


def test_the_challenge_has_28_marks_with_its_own_names():
    small = [f"chck_{count}M" for count in [*range(1, 10), *range(10, 101, 10)]]
    large = [f"chck_{count}M" for count in [*range(1, 10), *range(10, 100, 10), *range(100, 1001, 100)]]
    names = [name_of_mark(mark) for mark in BABYLM_MARKS]
    assert names == large
    assert names[: len(small)] == small
    assert marks_of("babylm") == BABYLM_MARKS
    assert marks_of(None) == ()
    assert marks_of((300, 100, 300)) == (100, 300)


@pytest.mark.parametrize(
    ("count", "name"), [(1_500_000, "chck_1.5M"), (500_000, "chck_0.5M"), (1_234, "chck_0.001234M")]
)
def test_other_counts_have_names_of_the_same_form(count, name):
    assert name_of_mark(count) == name


@pytest.mark.parametrize("step_tokens", [7, 100, 2_500, 100_000])
def test_each_mark_is_reached_once_at_the_nearest_step(step_tokens):
    marks = tuple(range(1_000, 20_001, 1_000))
    plan = WordMarks(marks, num_words=3, num_tokens=4, step_tokens=step_tokens, folder=Path("babylm"))
    totals = np.arange(0, 20_001 * 4 // 3 + 2 * step_tokens, step_tokens)
    reached = {folder.name: now for before, now in pairwise(totals) for folder in plan.reached(int(before), int(now))}
    assert list(reached) == [name_of_mark(mark) for mark in marks]
    words = [plan.words(int(total)) for total in totals[1:]]
    for mark, tokens in zip(marks, reached.values(), strict=True):
        assert abs(plan.words(int(tokens)) - mark) <= min(abs(count - mark) for count in words) + 1


def test_words_are_exact_after_a_whole_pass():
    plan = WordMarks((), num_words=7_001, num_tokens=10_007, step_tokens=64, folder=Path())
    assert plan.words(10_007) == 7_001
    assert plan.words(3 * 10_007) == 21_003
