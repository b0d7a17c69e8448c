"""Which positions an objective scores: whole units in random order until a budget of tokens is used."""

import torch
from torch import Tensor


def select_positions(is_eligible_T: Tensor, unit_starts_T: Tensor, budget: int, generator: torch.Generator) -> Tensor:
    """Return positions of randomly chosen units, at most `budget` tokens, each unit whole or not at all.

    Every eligible unit is as likely as any other. The budget is met exactly when every unit is one token; else a unit
    that would overshoot is left out and smaller ones after it may still fit (BERT's whole-word masking, Devlin et al.,
    release of May 2019, does the same).

    Args:
        is_eligible_T: bool [T], tokens that may be scored; a unit with an ineligible token is as long as the rest.
        unit_starts_T: bool [T], true where a unit begins; `is_eligible_T` itself makes every token a unit.
        budget: tokens to select.
        generator: on the CPU.

    Returns:
        int64 [at most budget], ascending.
    """
    eligible = is_eligible_T.nonzero().squeeze(1)
    starts = unit_starts_T[eligible]
    starts[:1] = True
    unit_of_token = starts.cumsum(0) - 1
    num_units = int(unit_of_token[-1]) + 1 if len(eligible) else 0
    order = torch.rand(num_units, generator=generator).argsort()
    sizes = torch.bincount(unit_of_token, minlength=num_units)[order]
    is_taken = _fill(sizes, budget)
    is_taken_unit = torch.zeros(num_units, dtype=torch.bool)
    is_taken_unit[order[is_taken]] = True
    return eligible[is_taken_unit[unit_of_token]]


def _fill(sizes: Tensor, budget: int) -> Tensor:
    """Return which of the units, offered in order, are taken: each one that still fits."""
    is_taken = sizes.cumsum(0) <= budget
    left = budget - int(sizes[is_taken].sum())
    while left > 0 and len(fitting := (~is_taken & (sizes <= left)).nonzero()):
        is_taken[fitting[0]] = True
        left -= int(sizes[fitting[0]])
    return is_taken
