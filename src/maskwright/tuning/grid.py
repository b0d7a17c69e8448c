"""Which short runs a search for rate and batch makes: a grid that is halved from rung to rung, within a budget.

Successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943): all candidates are trained for a short budget, the
better half for twice that budget, and so on. A learning rate is judged where its schedule has come to its end, since a
high one looks bad until it comes down; so every rung trains anew, and all of that counts.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from maskwright.core.errors import RecipeError
from maskwright.training.recipe.recipe import Recipe, parse_recipe, with_overrides
from maskwright.training.timeline import split_by_shares

RATE_STEP = 2.0
"""Factor between neighbouring learning rates."""

GRIDS = ((7, (0.25, 0.5, 1.0, 2.0)), (5, (0.25, 0.5, 1.0, 2.0)), (5, (0.5, 1.0, 2.0)), (5, (0.5, 1.0)), (5, (1.0,)))
"""How many learning rates, and which multiples of the recipe's batch; the first is taken that the budget holds."""

LEAST_STEPS = 20
"""Of the recipe's batch, in a trial of the first rung: shorter runs say what suits the first updates alone."""

FEWEST_TRIALS = 3
"""A rung with no more trials is the last."""


Candidate = tuple[float, int]
"""A learning rate, and the tokens of a batch."""


@dataclass(frozen=True)
class Batch:
    """One size of the batch.

    Attributes:
        tokens: of the recipe's batch.
        step_tokens: of a step of each phase.
        settings: what makes it, by the recipe's dotted keys.
    """

    tokens: int
    step_tokens: tuple[int, ...]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """What is tried, and for how long.

    Attributes:
        rates: learning rates, ascending.
        batches: ascending.
        rung_tokens: what a trial of each rung is given.
        rung_trials: how many trials go into each rung.
        shares: of the recipe's phases.
    """

    rates: tuple[float, ...]
    batches: tuple[Batch, ...]
    rung_tokens: tuple[int, ...]
    rung_trials: tuple[int, ...]
    shares: tuple[float, ...]

    @property
    def candidates(self) -> list[Candidate]:
        """Return every rate with every batch."""
        return [(rate, batch.tokens) for batch in self.batches for rate in self.rates]

    def batch(self, tokens: int) -> Batch:
        """Return the batch of so many tokens."""
        return next(batch for batch in self.batches if batch.tokens == tokens)

    def steps(self, tokens: int, rung: int) -> tuple[int, ...]:
        """Return the steps of each phase of a trial with batches of so many tokens."""
        costs = [float(each) for each in self.batch(tokens).step_tokens]
        return split_by_shares(self.rung_tokens[rung], list(self.shares), costs)

    def given(self, tokens: int, rung: int) -> int:
        """Return the tokens of all those steps; only where phases are cut do they differ from the rung's."""
        steps = self.steps(tokens, rung)
        return sum(count * each for count, each in zip(steps, self.batch(tokens).step_tokens, strict=True))

    def planned(self, rung: int) -> int:
        """Return the most tokens that the planned trials of a rung can take."""
        return self.rung_trials[rung] * max(self.given(batch.tokens, rung) for batch in self.batches)

    @property
    def total(self) -> int:
        """The most tokens that all planned trials can take, and one more of the last rung, beyond the grid's edge."""
        last = len(self.rung_tokens) - 1
        return sum(self.planned(rung) for rung in range(last + 1)) + self.planned(last) // self.rung_trials[last]


def fit_grid(recipe: Recipe, budget_tokens: int, share: float, num_ranks: int) -> Grid:
    """Return the richest grid whose trials, all together, keep to a share of the budget; each as long as it can be.

    Args:
        recipe: around whose rate and batch to search.
        budget_tokens: of the recipe.
        share: of the budget, the most that the search may use.
        num_ranks: processes of a run; each needs the same number of micro-batches.

    Raises:
        RecipeError: not even the smallest fits; says what would.
    """
    allowed = math.floor(share * budget_tokens)
    smallest = [
        _smallest(recipe, num_rates, tuple(_workable(recipe, factors, num_ranks))) for num_rates, factors in GRIDS
    ]
    for grid in smallest:
        if grid.total <= allowed:
            return _longest(grid, allowed)
    least = smallest[-1]
    enough = math.ceil(least.total / share)
    steps = math.ceil(enough / max(each.tokens for each in recipe.batches))
    times = math.ceil(10 * enough / budget_tokens) / 10
    larger_share = math.ceil(1000 * least.total / budget_tokens) / 1000
    raise RecipeError(
        f"{share:.3g} of the budget is {allowed:,} tokens, too few for the smallest search",
        f"{least.total:,} tokens: trials of {LEAST_STEPS} steps or more for {len(least.rates)} learning rates",
        f"give {times:g} times the budget ({enough:,} tokens, {steps:,} steps) or more"
        + (f", or --share {larger_share:g}" if larger_share <= 1 else "")
        + ", or take smaller batches (batch.tokens)",
    )


def _smallest(recipe: Recipe, num_rates: int, batches: tuple[Batch, ...]) -> Grid:
    """Return a grid with the shortest trials that say anything.

    They are a multiple of the largest batch, so that with one phase all trials of a rung get the same tokens.
    """
    reach = num_rates // 2
    rates = tuple(recipe.optimizer.learning_rate * RATE_STEP**power for power in range(-reach, reach + 1))
    counts = [num_rates * len(batches)]
    while counts[-1] > FEWEST_TRIALS:
        counts.append(math.ceil(counts[-1] / 2))
    unit = max(each for batch in batches for each in batch.step_tokens)
    first = unit * math.ceil(LEAST_STEPS * max(batch.tokens for batch in recipe.batches) / unit)
    tokens = tuple(first * 2**rung for rung in range(len(counts)))
    return Grid(rates, batches, tokens, tuple(counts), tuple(phase.share for phase in recipe.phases))


def _longest(grid: Grid, allowed: int) -> Grid:
    """Return a grid with trials as long as a number of tokens allows; it allows those that the grid has."""
    unit = max(each for batch in grid.batches for each in batch.step_tokens)

    def of_units(count: int) -> Grid:
        return replace(grid, rung_tokens=tuple(count * unit * 2**rung for rung in range(len(grid.rung_tokens))))

    least = grid.rung_tokens[0] // unit
    count = least * allowed // grid.total
    while count > least and of_units(count).total > allowed:
        count -= 1
    return of_units(count)


def _workable(recipe: Recipe, factors: Sequence[float], num_ranks: int) -> Iterator[Batch]:
    """Yield the recipe's batch times factors, where it can be cut into micro-batches for all processes.

    Raises:
        RecipeError: the recipe's own batch can't.
    """
    for factor in factors:
        try:
            settings = _batch_settings(recipe, factor, num_ranks)
            changed = parse_recipe(with_overrides(recipe.model_dump(mode="json"), settings), "the recipe")
        except RecipeError:
            if factor == 1:
                raise
            continue
        yield Batch(changed.batch.tokens, tuple(each.tokens for each in changed.batches), settings)


def _batch_settings(recipe: Recipe, factor: float, num_ranks: int) -> dict[str, Any]:
    """Return what multiplies the batch of every phase; micro-batches stay as large as they were where they can."""
    sections = {"batch": recipe.batch}
    sections |= {f"phases.{index}.batch": phase.batch for index, phase in enumerate(recipe.phases) if phase.batch}
    settings = {}
    for key, section in sections.items():
        tokens = section.tokens * factor
        if tokens % num_ranks:
            raise RecipeError(f"{key}.tokens: {tokens:g} for {num_ranks} processes", "a multiple of their number")
        micro = math.gcd(section.micro_batch_tokens, int(tokens) // num_ranks)
        settings[f"{key}.tokens"] = int(tokens)
        if micro != section.micro_batch_tokens:
            settings[f"{key}.micro_batch_tokens"] = micro
    return settings


def best_settings(recipe: Recipe, grid: Grid, candidate: Candidate) -> dict[str, Any]:
    """Return what makes a recipe train with a rate and a batch, by dotted keys; rates of phases are scaled along."""
    rate, tokens = candidate
    factor = rate / recipe.optimizer.learning_rate
    own = {
        f"phases.{index}.learning_rate": phase.learning_rate * factor
        for index, phase in enumerate(recipe.phases)
        if phase.learning_rate is not None
    }
    return {"optimizer.learning_rate": rate, **own, **grid.batch(tokens).settings}
