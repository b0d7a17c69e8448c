"""What a recipe will cost, before anything runs; and which one is chosen for some text and hours."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from maskwright.core.errors import RecipeError
from maskwright.core.files import write_text_atomically
from maskwright.core.ranks import Ranks
from maskwright.pipeline.chosen_recipe import require_recipe_or_means, with_hours
from maskwright.pipeline.recipes import RecipeLike, Settings, names_of, read_with_overrides, settings_of
from maskwright.training.engine.forecast import forecast


def plan(
    recipe: RecipeLike | None = None,
    *,
    data: Sequence[str] | str | Path = (),
    hours: float | None = None,
    save: str | Path | None = None,
    set: Settings = (),
) -> list[tuple[str, str]]:
    """Return parameters, FLOPs, and predicted speed, time, memory and disk of a recipe, as names and values.

    Args:
        recipe, data, hours, set: see `pipeline.train.train`; where a recipe is chosen, the reasons come first.
        save: write the recipe to this file.

    Raises:
        RecipeError: the recipe can't be used, or does not fit this machine; or the file is there already.
    """
    texts, settings = names_of(data), settings_of(set)
    require_recipe_or_means(recipe, texts, hours)
    if save is not None and Path(save).exists():
        raise RecipeError(f"--save {save}, which is there already", "a file that is not there yet")
    chosen, reasons = with_hours(recipe, texts, hours, settings, Ranks())
    parsed = read_with_overrides(chosen, texts, settings)
    rows = [*reasons, *forecast(parsed)]
    if save is not None:
        raw = parsed.model_dump(mode="json", exclude_defaults=True)
        write_text_atomically(Path(save), yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=100))
        rows.append(("recipe", str(save)))
    return rows
