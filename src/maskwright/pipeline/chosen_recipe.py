"""A recipe for some text and hours, where none was named: what there is to train with is found out here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskwright.core.errors import RecipeError
from maskwright.core.hardware import available_memory_bytes, default_device, fastest_dtype, matmul_flops_per_second
from maskwright.core.ranks import Ranks
from maskwright.corpus.config import DataConfig
from maskwright.corpus.find_sources import find_sources
from maskwright.pipeline.recipes import RecipeLike
from maskwright.training.engine.costs import EXPECTED_UTILISATION
from maskwright.training.recipe.choose import Choice, Means, choose_recipe

SECONDS = 1.5
"""For which matrix products are timed, the best of which counts: a busy moment must not choose a smaller encoder."""


def require_recipe_or_means(
    recipe: RecipeLike | None, data: Sequence[str], hours: float | None, from_model: str | Path | None = None
) -> None:
    """Refuse what names no recipe and does not say enough to choose one.

    Raises:
        RecipeError: there is no recipe, and text or hours are missing, or weights that one can't be chosen for; or the
            hours are not above zero.
    """
    if hours is not None and hours <= 0:
        raise RecipeError(f"--hours {hours:g}", "more than 0")
    if recipe is None and (not data or hours is None):
        missing = " and ".join(name for name, value in (("--data", data), ("--hours", hours)) if not value)
        raise RecipeError(
            f"no recipe was named, and no {missing}",
            "a recipe, such as recipes/small.yaml; or --data TEXT --hours HOURS, for which one is chosen; or "
            "--run FOLDER --resume",
        )
    if recipe is None and from_model is not None:
        raise RecipeError("--from without a recipe", "a recipe: one that is chosen for hours begins with fresh weights")


def with_hours(
    recipe: RecipeLike | None, data: Sequence[str], hours: float | None, settings: dict[str, Any], ranks: Ranks
) -> tuple[RecipeLike, list[tuple[str, str]]]:
    """Return the recipe whose budget the hours become, or one that is chosen for them, and why it was.

    Args:
        recipe: that was named; None: one is chosen.
        data: names of the text.
        hours: None leaves the recipe's budget as it is.
        settings: of the command line; the hours are added to them where a recipe was named.
        ranks: all processes.
    """
    if recipe is None:
        assert hours is not None
        choice = chosen_recipe(data, hours, ranks)
        return choice.recipe, choice.reasons
    if hours is not None:
        settings["budget"] = {"hours": hours}
    return recipe, []


def chosen_recipe(data: Sequence[str], hours: float, ranks: Ranks) -> Choice:
    """Return the recipe for some text and hours on this machine, the same on all ranks.

    Args:
        data: names of the text.
        hours: of training.
        ranks: all processes, whose machines count together.

    Raises:
        CorpusError: a name stands for nothing.
        RecipeError: the hours hold too little.
    """
    sizes = [source.num_text_bytes() for source in find_sources(data, DataConfig())]
    device = default_device()
    rate = matmul_flops_per_second(device, fastest_dtype(device), SECONDS) * EXPECTED_UTILISATION[device.type]
    rate_of_all, memory_of_all = ranks.sum([rate, float(available_memory_bytes(device))], device)
    means = Means(
        hours=hours,
        flops_per_second=rate_of_all,
        text_bytes=None if None in sizes else float(sum(filter(None, sizes))),
        memory_bytes=int(memory_of_all / ranks.num_ranks),
        num_ranks=ranks.num_ranks,
    )
    return choose_recipe(name_of(data), list(data), means)


def name_of(data: Sequence[str]) -> str:
    """Return a run's name by its text: of a glob the folder, of several the first."""
    if ":" in data[0]:
        return data[0].rpartition(":")[2].replace("/", "-")
    path = Path(data[0]).expanduser().absolute()
    while any(mark in path.name for mark in "*?["):
        path = path.parent
    return path.stem or "text"
