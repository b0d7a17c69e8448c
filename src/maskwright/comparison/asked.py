"""What a comparison is asked to compare: from the command line or a YAML file to arms with resolved recipes."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from maskwright.comparison.comparison_options import ComparisonOptions
from maskwright.core.errors import RecipeError, suggest_nearest
from maskwright.core.options import Options
from maskwright.core.records.run import RunFolder, record_of
from maskwright.core.strict_yaml import load_yaml
from maskwright.core.validation import problem_in_words
from maskwright.pipeline.probes import with_pairs_found
from maskwright.pipeline.recipes import read_with_overrides
from maskwright.training.recipe.differences import leaves
from maskwright.training.recipe.recipe import Recipe
from maskwright.training.recipe.sections import Budget
from maskwright.training.trained_run import recipe_of_run

DEFAULT_SEEDS = 3
"""The fewest over which a spread says anything."""

DEFAULT_TASKS = ["held_out", "word_order"]
"""They need no data but the corpus."""


class ArmSection(Options):
    """One of the recipes that are compared."""

    name: str | None = Field(
        default=None, description="what to call it; the file's name by default", min_length=1, max_length=60
    )
    recipe: str | None = Field(default=None, description="its file; the comparison's `recipe` by default")
    set: dict[str, Any] = Field(default_factory=dict, description="what replaces the recipe's own, by dotted key")
    runs: list[str] = Field(
        default_factory=list, description="instead of a recipe: run folders, one a seed, that were trained before"
    )


class ComparisonFile(Options):
    """A comparison as a YAML file; paths in it are relative to the file."""

    comparison: str = Field(description="title", min_length=1, max_length=200)
    recipe: str | None = Field(default=None, description="of every arm that names none")
    set: dict[str, Any] = Field(
        default_factory=dict, description="what replaces every recipe's own, by dotted key such as probes.num_probes"
    )
    budget: Budget | None = Field(
        default=None, description="of every run: tokens, steps, hours or flops; the recipes' own where it is the same"
    )
    seeds: int | list[int] = Field(
        default=DEFAULT_SEEDS, description="how many runs of each recipe, or the seeds themselves"
    )
    tasks: list[str] = Field(
        default=DEFAULT_TASKS, min_length=1, description="what to score the runs by: tasks, suites, YAML files"
    )
    task_settings: dict[str, Any] = Field(
        default_factory=dict, description="of tasks, by dotted key such as cola.training.epochs"
    )
    data: str | None = Field(default=None, description="folder with the tasks' data sets")
    baseline: str | None = Field(default=None, description="name of the arm that the others are compared with")
    arms: list[ArmSection] = Field(description="what is compared; the first is the baseline where none is named")


@dataclass(frozen=True)
class Arm:
    """One of the recipes that are compared, resolved.

    Attributes:
        name: in tables.
        recipe: with every default filled in, for any of its seeds.
        path: of the recipe; None where `runs` were trained before.
        settings: what replaces the recipe's own, as after --set.
        runs: folders of runs that were trained before, by seed.
    """

    name: str
    recipe: Recipe
    path: Path | None
    settings: tuple[str, ...]
    runs: Mapping[int, Path]

    @property
    def folder_name(self) -> str:
        """What files are named by."""
        return re.sub(r"[^\w.-]+", "-", self.name).strip("-.")


def read_comparison(files: Sequence[Path], how: ComparisonOptions) -> ComparisonFile:
    """Return what is asked for as one comparison, whatever form it came in; paths can be found from here.

    Raises:
        RecipeError: it can't be used.
    """
    with_arms = [path for path in files if not path.is_dir() and "arms" in load_yaml(path)]
    if with_arms:
        if len(files) > 1 or how.names is not None:
            what = "--names" if len(files) == 1 else "other recipes"
            raise RecipeError(f"{with_arms[0]} with {what}", "that file alone: its arms are listed and named in it")
        return _read_file(files[0])
    if len(files) < 2:
        what = str(files[0]) if files else "nothing"
        raise RecipeError(
            f"{what} alone can't be compared",
            "two recipes or run folders at least, or a file with arms (docs/compare.md)",
        )
    names = [name.strip() for name in how.names.split(",")] if how.names else [path.stem for path in files]
    if len(names) != len(files):
        raise RecipeError(f"--names {how.names}", f"{len(files)} names, one for each recipe, with commas between them")
    arms = [
        ArmSection(name=name, runs=[str(path)]) if path.is_dir() else ArmSection(name=name, recipe=str(path))
        for name, path in zip(names, files, strict=True)
    ]
    return ComparisonFile(comparison=" · ".join(names)[:200], arms=arms)


def _read_file(path: Path) -> ComparisonFile:
    try:
        found = ComparisonFile.model_validate(load_yaml(path))
    except ValidationError as error:
        problem = problem_in_words(ComparisonFile, error.errors()[0], "comparison")
        raise RecipeError(f"{path}: {problem}", "keys that docs/compare.md explains") from error

    def resolve(name: str | None) -> str | None:
        if name is None:
            return None
        found = (path.parent / name).resolve()
        return str(found.relative_to(Path.cwd()) if found.is_relative_to(Path.cwd()) else found)

    arms = [
        arm.model_copy(update={"recipe": resolve(arm.recipe), "runs": [str(resolve(run)) for run in arm.runs]})
        for arm in found.arms
    ]
    tasks = [str(resolve(name)) if name.endswith((".yaml", ".yml")) else name for name in found.tasks]
    paths = {"recipe": resolve(found.recipe), "data": resolve(found.data)}
    return found.model_copy(update={"arms": arms, "tasks": tasks, **paths})


def resolved_arms(asked: ComparisonFile, how: ComparisonOptions) -> list[Arm]:
    """Return the arms with their recipes, which share text, tokenizer and budget.

    Raises:
        RecipeError: an arm can't be used, or they share too little to be compared.
    """
    budget = budget_of(asked, how)
    arms = [_resolved(arm, asked, how, budget) for arm in asked.arms]
    if len(arms) < 2:
        raise RecipeError("a comparison of one arm", "two arms at least")
    for attribute in ("name", "folder_name"):
        seen = [getattr(arm, attribute) for arm in arms]
        twice = [name for name in seen if seen.count(name) > 1 or not name]
        if twice:
            raise RecipeError(
                f"two arms are named {twice[0]!r}, or a name has no letter"
                if attribute == "name"
                else f"the arms' names differ in punctuation alone: {twice[0]!r}",
                "a name of its own for each arm",
                "name them: --names a,b, or `name` in the file",
            )
    require_comparable([arm for arm in arms if arm.path is not None])
    return arms


def _resolved(arm: ArmSection, asked: ComparisonFile, how: ComparisonOptions, budget: Budget | None) -> Arm:
    if arm.runs:
        if arm.recipe or arm.set:
            raise RecipeError(f"arm {arm.name or arm.runs[0]}: runs with recipe or set", "runs alone: they are trained")
        return _trained_before(arm)
    path = arm.recipe or asked.recipe
    if path is None:
        raise RecipeError(f"arm {arm.name or ''}: no recipe", "`recipe` in the arm or in the comparison")
    name = arm.name or Path(path).stem
    values = {**asked.set, **arm.set}
    settings = [*(f"{key}={in_yaml(value)}" for key, value in values.items()), *how.set]
    if budget is not None:
        settings.append(f"budget={in_yaml(budget.model_dump(exclude_none=True))}")
    settings.append(f"name={in_yaml(name)}")
    recipe = with_pairs_found(read_with_overrides(Path(path), (), settings))
    return Arm(name, recipe, Path(path), tuple(settings), {})


def _trained_before(arm: ArmSection) -> Arm:
    """Return an arm of runs that are finished.

    Raises:
        CheckpointError: a folder is no run.
        RecipeError: a run is not finished, or two have one seed.
    """
    runs: dict[int, Path] = {}
    recipe = None
    for run in map(Path, arm.runs):
        record = record_of(run)
        if record.status != "finished":
            raise RecipeError(
                f"{run} is {record.status}", "runs that are finished", f"go on: maskwright train --run {run} --resume"
            )
        recipe = recipe or recipe_of_run(record, str(RunFolder(run).run_record))
        seed = int(record.recipe["seed"])
        if seed in runs:
            raise RecipeError(f"{run} and {runs[seed]} have the same seed, {seed}", "runs that differ by their seeds")
        runs[seed] = run
    assert recipe is not None
    return Arm(arm.name or Path(arm.runs[0]).name, recipe, None, (), runs)


def in_yaml(value: Any) -> str:
    """Return a value as one line of YAML, as --set takes it."""
    return json.dumps(value, ensure_ascii=False)


def budget_of(asked: ComparisonFile, how: ComparisonOptions) -> Budget | None:
    """Return the budget of every run; None where the recipes' own is to count.

    Raises:
        RecipeError: more than one was given.
    """
    given = {"tokens": how.tokens, "flops": how.flops, "hours": how.hours}
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        return asked.budget
    try:
        return Budget.model_validate(given)
    except ValidationError as error:
        problem = problem_in_words(Budget, error.errors()[0], "budget")
        options = " ".join(f"--{name} {value}" for name, value in given.items())
        raise RecipeError(f"{options}: {problem}", "one budget, above nought: --tokens, --flops or --hours") from error


def require_comparable(arms: Sequence[Arm]) -> None:
    """Refuse recipes that would read other text, make another tokenizer, or get another budget.

    Raises:
        RecipeError: they do; names the first difference.
    """
    for other in arms[1:]:
        first = arms[0]
        for section, expected in (("data", "the same text"), ("tokenizer", "the same tokenizer")):
            ours, others = (
                leaves({section: getattr(arm.recipe, section).model_dump(mode="json")}) for arm in (first, other)
            )
            keys = [key for key in {**ours, **others} if ours.get(key) != others.get(key)]
            if keys:
                key = keys[0]
                raise RecipeError(
                    f"{key} is {ours.get(key)!r} in {first.name} and {others.get(key)!r} in {other.name}",
                    f"{expected} for all; otherwise they would be asked different questions",
                    f"set {key} for all of them with --set",
                )
        budgets = [arm.recipe.budget for arm in (first, other)]
        if budgets[0] != budgets[1]:
            raise RecipeError(
                f"the budgets differ: {first.name} has {budget_in_words(budgets[0])}, {other.name} has "
                f"{budget_in_words(budgets[1])}",
                "one budget for all",
                "give --tokens, --flops or --hours",
            )
        ours, others = (_step_tokens(arm.recipe) for arm in (first, other))
        if budgets[0].steps is not None and (len({*ours, *others}) > 1):
            raise RecipeError(
                f"the budget is {budgets[0].steps} steps, and a step is {_either(ours)} tokens in {first.name} and "
                f"{_either(others)} in {other.name}",
                "one budget for all",
                "give --tokens, --flops or --hours",
            )


def _step_tokens(recipe: Recipe) -> set[int]:
    return {batch.tokens for batch in recipe.batches}


def _either(sizes: set[int]) -> str:
    return " or ".join(map(str, sorted(sizes)))


def budget_in_words(budget: Budget) -> str:
    """Return {"tokens": 2000000} as "2,000,000 tokens"."""
    ((name, value),) = budget.model_dump(exclude_none=True).items()
    if name == "flops":
        return f"{value:.3g} FLOPs"
    return f"{value:,.10g} {name if name != 'hours' else 'hours of training'}"


def seeds_of(asked: ComparisonFile, how: ComparisonOptions, first: int) -> tuple[int, ...]:
    """Return the seeds that recipes are trained with.

    Args:
        asked: gives how many, or which.
        how: the same, and goes first.
        first: where they are only counted.

    Raises:
        RecipeError: they make no sense.
    """
    seeds = asked.seeds if how.seeds is None else how.seeds
    if isinstance(seeds, int):
        seeds = list(range(first, first + seeds))
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise RecipeError(f"seeds: {seeds}", "a count of 1 or more, or a list of different numbers from 0 on")
    return tuple(seeds)


def baseline_of(asked: ComparisonFile, how: ComparisonOptions, arms: Sequence[Arm]) -> str:
    """Return the name of the arm that the others are compared with.

    Raises:
        RecipeError: there is no such arm.
    """
    name = how.baseline or asked.baseline or arms[0].name
    names = [arm.name for arm in arms]
    if name not in names:
        raise RecipeError(f"no arm is named {name!r}{suggest_nearest(name, names)}", "one of " + ", ".join(names))
    return name


def command_of(files: Sequence[Path], how: ComparisonOptions, out: Path) -> str:
    """Return the command line that makes, or goes on with, this comparison."""
    parts = ["maskwright", "compare", *map(str, files)]
    for option, value in vars(how).items():
        flag = "--" + option.replace("_", "-")
        if option in ("set", "task_set"):
            parts += [part for one in value for part in (flag, one)]
        elif value is not None and option not in ("out", "dry_run"):
            parts += [flag, str(value)]
    return shlex.join([*parts, "--out", str(out)])
