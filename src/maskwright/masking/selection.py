"""Which positions an objective scores: whole units in random order until a budget of tokens is used."""

import torch
from torch import Tensor


def select_positions(
    is_eligible_T: Tensor,
    unit_starts_T: Tensor,
    budget: int,
    generator: torch.Generator,
    weights_T: Tensor | None = None,
) -> Tensor:
    """Return positions of randomly chosen units, at most `budget` tokens, each unit whole or not at all.

    Units are drawn one after the other without replacement, each in proportion to its weight (Efraimidis and Spirakis
    2006: in the order of exponential variables over the weights). The budget is met exactly when every unit is one
    token; else a unit that would overshoot is left out and smaller ones after it may still fit (BERT's whole-word
    masking, Devlin et al., release of May 2019, does the same).

    Args:
        is_eligible_T: bool [T], tokens that may be scored; a unit with an ineligible token is as long as the rest.
        unit_starts_T: bool [T], true where a unit begins; `is_eligible_T` itself makes every token a unit.
        budget: tokens to select.
        generator: on the CPU.
        weights_T: float [T], above 0; a unit's weight is the mean of its tokens'. None: all units alike.

    Returns:
        int64 [at most budget], ascending.
    """
    eligible = is_eligible_T.nonzero().squeeze(1)
    starts = unit_starts_T[eligible]
    starts[:1] = True
    unit_of_token = starts.cumsum(0) - 1
    num_units = int(unit_of_token[-1]) + 1 if len(eligible) else 0
    weights = None if weights_T is None else weights_T[eligible]
    order = _keys(unit_of_token, num_units, weights, generator).argsort()
    sizes = torch.bincount(unit_of_token, minlength=num_units)[order]
    is_taken = _fill(sizes, budget)
    is_taken_unit = torch.zeros(num_units, dtype=torch.bool)
    is_taken_unit[order[is_taken]] = True
    return eligible[is_taken_unit[unit_of_token]]


def unit_order(unit_starts_T: Tensor, weights_T: Tensor | None, generator: torch.Generator) -> Tensor:
    """Return numbers in whose order tokens are drawn as `select_positions` does, the same for all tokens of a unit.

    Args:
        unit_starts_T: bool [T], true where a unit begins.
        weights_T: float [T], above 0; a unit's weight is the mean of its tokens'. None: all units alike.
        generator: on the CPU.

    Returns:
        float [T].
    """
    unit_of_token = unit_starts_T.long().cumsum(0)
    return _keys(unit_of_token, len(unit_starts_T) + 1, weights_T, generator)[unit_of_token]


def _keys(unit_of_token: Tensor, num_units: int, weights: Tensor | None, generator: torch.Generator) -> Tensor:
    """Return a random number for each unit; the smallest is that of a unit in proportion to the units' weights."""
    keys = torch.rand(num_units, generator=generator)
    if weights is None:
        return keys
    sums = torch.bincount(unit_of_token, weights=weights.double(), minlength=num_units)
    means = sums / torch.bincount(unit_of_token, minlength=num_units)
    return -torch.log1p(-keys.double()) / means


def _fill(sizes: Tensor, budget: int) -> Tensor:
    """Return which of the units, offered in order, are taken: each one that still fits."""
    is_taken = sizes.cumsum(0) <= budget
    left = budget - int(sizes[is_taken].sum())
    while left > 0 and len(fitting := (~is_taken & (sizes <= left)).nonzero()):
        is_taken[fitting[0]] = True
        left -= int(sizes[fitting[0]])
    return is_taken
