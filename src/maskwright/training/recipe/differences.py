"""Where several recipes differ, key by key: what a comparison is about."""

from collections.abc import Mapping
from typing import Any

from maskwright.training.recipe.recipe import Recipe

OF_THE_RUN = frozenset({"name", "description", "seed", "budget"})
"""Sections that say nothing about how a recipe trains: labels, and what a comparison makes equal itself."""


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Return nested settings by dotted key; lists of plain values and empty sections are values themselves."""
    if isinstance(value, dict) and value:
        parts = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(one, dict) for one in value):
        parts = enumerate(value)
    else:
        return {path: value}
    found: dict[str, Any] = {}
    for key, inner in parts:
        found |= leaves(inner, f"{path}.{key}" if path else str(key))
    return found


def differing(recipes: Mapping[str, Recipe]) -> dict[str, dict[str, Any]]:
    """Return for each recipe its values of the keys that are not the same in all; a key that it lacks is absent.

    Args:
        recipes: by any name, with every default filled in.
    """
    by_name = {
        name: leaves(recipe.model_dump(mode="json", exclude=set(OF_THE_RUN))) for name, recipe in recipes.items()
    }
    keys = list(dict.fromkeys(key for values in by_name.values() for key in values))
    absent = object()
    odd = [key for key in keys if len({repr(values.get(key, absent)) for values in by_name.values()}) > 1]
    return {name: {key: values[key] for key in odd if key in values} for name, values in by_name.items()}


def first_difference(one: Any, other: Any, path: str = "") -> str | None:
    """Return the dotted key of the first difference between two recipes, with both values; None if they are equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}, key=str):
            if problem := first_difference(one.get(key), other.get(key), f"{path}.{key}".lstrip(".")):
                return problem
        return None
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            if problem := first_difference(*pair, f"{path}.{index}"):
                return problem
        return None
    return None if one == other else f"{path} is {one!r} there and {other!r} here"
