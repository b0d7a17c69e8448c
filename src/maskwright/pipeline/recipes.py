"""Recipes and settings as the command line takes them: a file, --data and --set."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskwright.training.recipe.recipe import Recipe


def read_with_overrides(recipe: Path, data: Sequence[str], settings: Sequence[str]) -> "Recipe":
    """Read a recipe with `--data` and `--set key=value` applied; plug-ins beside the recipe can be named in it.

    Raises:
        RecipeError: any of them can't be used.
    """
    from maskwright.training.recipe.recipe import read_recipe

    find_plug_ins_in(recipe.parent)
    overrides: dict[str, Any] = {}
    if data:
        overrides["data.data"] = data[0] if len(data) == 1 else list(data)
    return read_recipe(recipe, overrides | settings_of(settings))


def settings_of(settings: Sequence[str]) -> dict[str, Any]:
    """Return the values of `--set key=value` by key, read as YAML.

    Raises:
        RecipeError: one is no key=value.
    """
    from maskwright.core.errors import RecipeError
    from maskwright.core.strict_yaml import parse_yaml

    values = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator:
            raise RecipeError(f"--set {setting}", "--set key=value, such as --set optimizer.learning_rate=1e-3")
        values[key] = parse_yaml(value, f"--set {key}")
    return values


def with_strict(settings: Sequence[str], strict: bool) -> Sequence[str]:
    """Return the settings of `--set` with `--strict` as one of them."""
    return [*settings, "data.strict=true"] if strict else settings


def find_plug_ins_in(folder: Path) -> None:
    """Let "module:Class" in a recipe name a module in `folder`."""
    place = str(folder.resolve())
    if place not in sys.path:
        sys.path.insert(0, place)
