"""Recipes and settings as people give them: a file, a mapping or an object, with values that replace its own."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from maskwright.core.discovery import find_plug_ins_in
from maskwright.core.errors import RecipeError
from maskwright.core.strict_yaml import load_yaml, parse_yaml
from maskwright.training.recipe.recipe import Recipe, parse_recipe, with_overrides

RecipeLike = str | Path | Mapping[str, Any] | Recipe
"""A recipe: the path of a YAML file, what would stand in one, or a `Recipe`."""

Settings = Mapping[str, Any] | Sequence[str]
"""Values that replace a recipe's, by dotted key: a mapping, or "key=value" as the command line has them."""


def names_of(data: Sequence[str] | str | Path) -> list[str]:
    """Return the names of text, given as one or several."""
    return [str(data)] if isinstance(data, str | Path) else [str(each) for each in data]


def read_with_overrides(recipe: RecipeLike, data: Sequence[str] | str | Path, settings: Settings) -> Recipe:
    """Return a recipe with other text and settings; plug-ins next to its file can be named in it.

    Args:
        recipe: see `RecipeLike`.
        data: takes the place of the recipe's text; empty: the recipe's own.
        settings: see `Settings`.

    Raises:
        RecipeError: any of them can't be used.
    """
    find_plug_ins_in(folder_of(recipe))
    if isinstance(recipe, Recipe):
        raw: dict[str, Any] = recipe.model_dump(mode="json")
    elif isinstance(recipe, Mapping):
        raw = deepcopy(dict(recipe))
    else:
        raw = load_yaml(Path(recipe))
    texts = names_of(data)
    overrides: dict[str, Any] = {"data.data": texts[0] if len(texts) == 1 else texts} if texts else {}
    origin = str(recipe) if isinstance(recipe, str | Path) else "the recipe"
    return parse_recipe(with_overrides(raw, overrides | settings_of(settings)), origin)


def folder_of(recipe: RecipeLike) -> Path:
    """Return where plug-ins of one's own are looked for: next to a recipe's file, or in the working folder."""
    return Path(recipe).parent if isinstance(recipe, str | Path) else Path()


def settings_of(settings: Settings) -> dict[str, Any]:
    """Return settings by key; the values of "key=value" are read as YAML.

    Raises:
        RecipeError: one is no key=value.
    """
    if isinstance(settings, Mapping):
        return dict(settings)
    values = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator:
            raise RecipeError(f"--set {setting}", "--set key=value, such as --set optimizer.learning_rate=1e-3")
        values[key] = parse_yaml(value, f"--set {key}")
    return values
