"""Which trials a search makes: as many and as long as the budget holds, in micro-batches that there can be."""

import re
from typing import Any

import pytest

from maskwright.core.errors import RecipeError
from maskwright.training.recipe.recipe import Recipe, parse_recipe
from maskwright.tuning.grid import LEAST_STEPS, best_settings, fit_grid

SHARE = 0.05


def recipe_of(**changes: Any) -> Recipe:
    """A recipe with steps of 1,024 tokens in two micro-batches."""
    raw = {
        "name": "grid",
        "budget": {"steps": 1},
        "phases": [{"sequence_length": 128}],
        "batch": {"tokens": 1024, "micro_batch_tokens": 512},
        "optimizer": {"learning_rate": 1e-3},
    }
    return parse_recipe(raw | changes, "test")


@pytest.mark.parametrize(
    ("budget_steps", "num_rates", "batches"),
    [
        (100_000, 7, [256, 512, 1024, 2048]),
        (40_000, 5, [256, 512, 1024, 2048]),
        (30_000, 5, [512, 1024, 2048]),
        (20_000, 5, [512, 1024]),
        (6_000, 5, [1024]),
    ],
)
def test_a_larger_budget_holds_more_and_no_share_is_passed(budget_steps, num_rates, batches):
    grid = fit_grid(recipe_of(), 1024 * budget_steps, SHARE, num_ranks=1)
    assert len(grid.rates) == num_rates
    assert [batch.tokens for batch in grid.batches] == batches
    assert grid.rates[num_rates // 2] == 1e-3
    given = sum(
        count * grid.given(batches[0], rung) for rung, count in enumerate(grid.rung_trials)
    )  # with one phase, each trial of a rung is given the same
    one_more = grid.given(batches[0], len(grid.rung_tokens) - 1)
    allowed = SHARE * 1024 * budget_steps
    assert given + one_more == grid.total <= allowed
    assert grid.total > 0.8 * allowed or len(grid.rates) * len(batches) > 5  # what could be used is used
    assert min(sum(grid.steps(1024, rung)) for rung in range(len(grid.rung_tokens))) >= LEAST_STEPS
    assert len({grid.given(tokens, 0) for tokens in batches}) == 1


def test_the_least_that_works_is_told_and_works():
    with pytest.raises(RecipeError, match="too few for the smallest search") as refused:
        fit_grid(recipe_of(), 1024 * 1000, SHARE, num_ranks=1)
    (number,) = re.findall(r"\(([\d,]+) tokens", refused.value.to_do)
    least = int(number.replace(",", ""))
    assert fit_grid(recipe_of(), least, SHARE, num_ranks=1).total <= SHARE * least
    with pytest.raises(RecipeError):
        fit_grid(recipe_of(), least - 1024, SHARE, num_ranks=1)
    (share,) = re.findall(r"--share ([\d.]+)", refused.value.to_do)
    assert fit_grid(recipe_of(), 1024 * 1000, float(share), num_ranks=1)


def test_micro_batches_fit_the_batch_the_sequences_and_the_processes():
    batches = fit_grid(recipe_of(), 10**9, SHARE, num_ranks=1).batches
    assert [batch.settings.get("batch.micro_batch_tokens", 512) for batch in batches] == [256, 512, 512, 512]
    long = recipe_of(phases=[{"sequence_length": 512}])
    assert [batch.tokens for batch in fit_grid(long, 10**9, SHARE, num_ranks=1).batches] == [512, 1024, 2048]
    for batch in fit_grid(recipe_of(), 10**9, SHARE, num_ranks=2).batches:
        assert batch.tokens / batch.settings.get("batch.micro_batch_tokens", 512) % 2 == 0


def test_what_phases_have_of_their_own_is_scaled_along():
    phases = [
        {"sequence_length": 128, "share": 3},
        {"sequence_length": 128, "learning_rate": 1e-4, "batch": {"tokens": 2048, "micro_batch_tokens": 1024}},
    ]
    recipe = recipe_of(phases=phases)
    grid = fit_grid(recipe, 10**9, SHARE, num_ranks=1)
    assert grid.total <= SHARE * 10**9
    assert [batch.step_tokens for batch in grid.batches] == [(256, 512), (512, 1024), (1024, 2048), (2048, 4096)]
    assert best_settings(recipe, grid, (4e-3, 256)) == {
        "optimizer.learning_rate": 4e-3,
        "phases.1.learning_rate": 4e-4,
        "batch.tokens": 256,
        "batch.micro_batch_tokens": 256,
        "phases.1.batch.tokens": 512,
        "phases.1.batch.micro_batch_tokens": 512,
    }
