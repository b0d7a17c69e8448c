"""What a phase takes over from the one before: the encoder, its head, and the parts of the objective that both have."""

from collections.abc import Sequence

import torch
from torch import nn

from maskwright.core.errors import RecipeError
from maskwright.objectives.base import Objective

OF_THE_MODEL = ("vocabulary_head", "terms")
"""Children of an objective that are no parts of its own: the model's head, and the terms, each of which is a part."""


def kept_parts(before: Objective, now: Objective, keep: Sequence[str] | None) -> list[str]:
    """Return the parts of an objective that go on with what the objective before learned, by their names within it.

    Args:
        before, now: the objectives of two phases.
        keep: `Phase.keep`; None: every part that both have, of one class and with tensors of the same shapes.

    Raises:
        RecipeError: a part that is to be kept is not there in both, or does not fit.
    """
    ours, others = parts_of(now), parts_of(before)
    if keep is None:
        return [name for name in ours if name in others and _fits(others[name], ours[name])]
    for name in keep:
        if name not in ours or name not in others:
            known = ", ".join(name for name in ours if name in others) or "none"
            raise RecipeError(f"keep: {name!r} is no part of both objectives", f"one of those that are: {known}")
        if not _fits(others[name], ours[name]):
            raise RecipeError(
                f"keep: {name} has other weights in this phase than in the one before", "options that leave it as it is"
            )
    return list(keep)


def carry_over(before: Objective, now: Objective, names: Sequence[str]) -> dict[str, str]:
    """Copy parts of an objective into another.

    Returns:
        By the tensor's name in a model of the new objective, its name in a model of the old one; they are the same.
    """
    ours, others = parts_of(now), parts_of(before)
    carried = {}
    with torch.no_grad():
        for part in names:
            path = f"terms.{part}" if part in now.terms else part
            tensors = others[part].state_dict()
            for name, tensor in ours[part].state_dict().items():
                tensor.copy_(tensors[name])
                carried[f"objective.{path}.{name}"] = f"objective.{path}.{name}"
    return carried


def parts_of(objective: Objective) -> dict[str, nn.Module]:
    """Return the parts of an objective that have weights or statistics: its terms by name, and its other children."""
    children = {name: child for name, child in objective.named_children() if name not in OF_THE_MODEL}
    parts = {**{name: objective.terms[name] for name in objective.terms}, **children}
    return {name: part for name, part in parts.items() if part.state_dict()}


def _fits(before: nn.Module, now: nn.Module) -> bool:
    if type(before) is not type(now):
        return False
    ours, others = ({name: each.shape for name, each in part.state_dict().items()} for part in (now, before))
    return ours == others
