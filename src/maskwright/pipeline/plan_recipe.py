"""What a recipe will cost, before anything runs."""

from maskwright.pipeline.recipes import RecipeLike, Settings, read_with_overrides
from maskwright.training.engine.forecast import forecast


def plan(recipe: RecipeLike, *, set: Settings = ()) -> list[tuple[str, str]]:
    """Return parameters, FLOPs, and predicted speed, time, memory and disk of a recipe, as names and values.

    Args:
        recipe, set: see `pipeline.train.train`.

    Raises:
        RecipeError: the recipe can't be used, or does not fit this machine.
    """
    return forecast(read_with_overrides(recipe, (), set))
