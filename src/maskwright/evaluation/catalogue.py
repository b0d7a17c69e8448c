"""Turn names on the command line into tasks: shipped YAML files, suites, a user's own files, and plug-ins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from maskwright.core.discovery import load_plug_in, plug_in_names
from maskwright.core.errors import RecipeError, suggest_nearest
from maskwright.core.options import Options
from maskwright.core.records.evaluation import TableRecord
from maskwright.core.strict_yaml import load_yaml, merge_mappings
from maskwright.core.validation import keys_at, problem_in_words
from maskwright.evaluation.tasks.base import Task

TASKS = "maskwright.evaluation.tasks"


class Suite(Options):
    """`suites/<name>.yaml`: tasks that make one table."""

    title: str = Field(description="heading of the table")
    tasks: list[str] = Field(description="names of tasks, in the order of the table's rows", min_length=1)


@dataclass(frozen=True)
class NamedTask:
    """A task that was requested.

    Attributes:
        name: names its record.
        kind: the plug-in.
        task: configured.
        table: the suite it was asked for with; None if it was asked for alone.
    """

    name: str
    kind: str
    task: Task
    table: TableRecord | None = None

    @property
    def title(self) -> str:
        """What people call it."""
        return self.task.config.title or self.name

    @property
    def metric(self) -> str | None:
        """The score by which recipes are compared."""
        return self.task.main_metric or self.task.compared_by


@dataclass(frozen=True)
class RawTask:
    """A task as written in YAML.

    Attributes:
        name: names its record.
        values: the YAML, with the key `kind`.
        path: of the YAML; None for a kind by itself.
        table: the suite it was asked for with, if any.
    """

    name: str
    values: dict[str, Any]
    path: Path | None = None
    table: TableRecord | None = None


def known_names() -> list[str]:
    """Return everything that `--tasks` takes, sorted: suites, YAML tasks, and kinds that need no data to be named."""
    return sorted({*_shipped("suites"), *_shipped("tasks"), *filter(_needs_no_settings, plug_in_names(TASKS))})


@dataclass(frozen=True)
class ShippedEntry:
    """A suite or a YAML task that comes with the package.

    Attributes:
        name: what `--tasks` takes.
        title: what people call it.
        about: its members, or its kind and where its data comes from.
    """

    name: str
    title: str
    about: str


def shipped_suites() -> list[ShippedEntry]:
    """Return the suites, sorted by name."""
    suites = {name: Suite.model_validate(load_yaml(path)) for name, path in _shipped("suites").items()}
    return [ShippedEntry(name, suite.title, ", ".join(suite.tasks)) for name, suite in suites.items()]


def shipped_tasks() -> list[ShippedEntry]:
    """Return the YAML tasks, sorted by name."""
    tasks: list[ShippedEntry] = []
    for name, path in _shipped("tasks").items():
        raw = load_yaml(path)
        data = raw.get("data") or raw.get("whereabouts") or {}
        tasks.append(ShippedEntry(name, str(raw.get("title", name)), f"{raw['kind']}; {data.get('source', '')}"))
    return tasks


def find_tasks(names: Sequence[str], settings: Mapping[str, Any]) -> list[NamedTask]:
    """Return the tasks for some names, suites resolved, each task once.

    Args:
        names: of suites, tasks or kinds, "module:Class", or paths of YAML files with a task or a suite.
        settings: values by dotted key: "cola.training.epochs" is for one task, "training.epochs" for every task that
            has a setting `training`.

    Raises:
        RecipeError: a name or a setting that does not exist, or a YAML file that can't be used.
    """
    raw_tasks: dict[str, RawTask] = {}
    for name in names:
        suite_path, suite = _read_suite(name)
        members = [_raw_task(_resolve_member(member, suite_path)) for member in (suite.tasks if suite else [name])]
        table = None
        if suite:
            titles = {member.name: str(member.values.get("title") or member.name) for member in members}
            table = TableRecord(name=Path(name).stem, title=suite.title, tasks=titles)
        for member in members:
            before = raw_tasks.get(member.name)
            if before is not None and before.path != member.path:
                raise RecipeError(
                    f"two tasks are named {member.name!r}: {before.path or 'a kind'} and {member.path or 'a kind'}",
                    "a name of its own for each task: records are named by it",
                    "rename one of the files",
                )
            raw_tasks[member.name] = replace(member, table=table or (before.table if before else None))
    chosen = _settings_by_task({name: raw.values for name, raw in raw_tasks.items()}, settings)
    return [_build(raw, merge_mappings(raw.values, chosen[name])) for name, raw in raw_tasks.items()]


def build_task(kind: str, settings: Mapping[str, Any], name: str | None = None) -> Task:
    """Return a task of a kind ("held_out", or "module:Class") with its settings.

    Raises:
        RecipeError: there is no such kind, or it has no such setting.
    """
    plug_in = load_plug_in(TASKS, kind, Task)  # pyright: ignore[reportAbstractUsage]
    try:
        return plug_in(plug_in.Config.model_validate(dict(settings)))  # pyright: ignore[reportAbstractUsage]
    except ValidationError as error:
        first = error.errors()[0]
        known = keys_at(plug_in.Config, first["loc"][:-1])
        raise RecipeError(
            f"task {name or kind}: {problem_in_words(plug_in.Config, first, 'settings')}",
            "keys that docs/tasks.md explains: " + ", ".join(known),
        ) from error


def _shipped(folder: str) -> dict[str, Path]:
    resources = Path(str(files("maskwright.evaluation") / folder))
    return {path.stem: path for path in sorted(resources.glob("*.yaml"))}


def _needs_no_settings(kind: str) -> bool:
    """Return whether a kind needs no setting to be given."""
    plug_in = load_plug_in(TASKS, kind, Task)  # pyright: ignore[reportAbstractUsage]
    return not any(field.is_required() for field in plug_in.Config.model_fields.values())


def _read_suite(name: str) -> tuple[Path | None, Suite | None]:
    """Return the file and the suite of a name or path; None if it names no suite."""
    path = _shipped("suites").get(name) or _own_file(name)
    raw = load_yaml(path) if path else {}
    if "tasks" not in raw:
        return path, None
    try:
        return path, Suite.model_validate(raw)
    except ValidationError as error:
        problem = problem_in_words(Suite, error.errors()[0], "suite")
        raise RecipeError(f"{path}: {problem}", "a suite: title and tasks") from error


def _own_file(name: str) -> Path | None:
    """Return the path that a name stands for; None if it is not a path.

    Raises:
        RecipeError: there is no such file.
    """
    if not name.endswith((".yaml", ".yml")):
        return None
    path = Path(name)
    if not path.is_file():
        raise RecipeError(f"{path} is no file", "the YAML file of a task or a suite", "see docs/tasks.md")
    return path


def _resolve_member(member: str, suite: Path | None) -> str:
    """Return a member of a suite; a path of one is relative to the suite's file."""
    return str(suite.parent / member) if suite is not None and member.endswith((".yaml", ".yml")) else member


def _raw_task(name: str) -> RawTask:
    """Return a task as written in its YAML.

    Raises:
        RecipeError: there is no such task, or its YAML names no kind.
    """
    own_file = _own_file(name)
    path = _shipped("tasks").get(name) or own_file
    kinds = plug_in_names(TASKS)
    if path is not None:
        raw = load_yaml(path)
        kind = raw.get("kind")
        if not isinstance(kind, str) or (":" not in kind and kind not in kinds):
            problem = (
                "kind is missing" if kind is None else f"there is no kind {kind!r}{suggest_nearest(str(kind), kinds)}"
            )
            raise RecipeError(f"{path}: {problem}", "one of " + ", ".join(kinds) + ', or "module:Class"')
        if own_file is not None:
            raw = _with_folder(raw, path.parent)
        return RawTask(path.stem, raw, path)
    if ":" not in name and name not in kinds:
        known = known_names()
        raise RecipeError(
            f"no task is named {name!r}{suggest_nearest(name, known)}",
            "one of " + ", ".join(known) + ", or the path of a YAML file",
            "see: maskwright list tasks",
        )
    return RawTask(name, {"kind": name})


def _with_folder(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a user's task with its own folder as the second location, after --data, to look for its files."""
    config = load_plug_in(TASKS, str(raw["kind"]), Task).Config  # pyright: ignore[reportAbstractUsage]
    placed = dict(raw)
    for key, field in config.model_fields.items():
        section = raw.get(key, None if field.is_required() else {})
        if "folder" in keys_at(config, [key]) and isinstance(section, dict):
            placed[key] = {"folder": str(folder)} | section
    return placed


def _settings_by_task(raw_tasks: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Sort settings by the task they are for, as nested dictionaries."""
    chosen: dict[str, dict[str, Any]] = {name: {} for name in raw_tasks}
    for key, value in settings.items():
        first, _, rest = key.partition(".")
        if first in chosen and rest:
            targets, path = [first], rest
        else:
            targets, path = [name for name, raw in raw_tasks.items() if first in _fields(raw)], key
        if not targets:
            known = sorted({field for raw in raw_tasks.values() for field in _fields(raw)} | set(chosen))
            raise RecipeError(
                f"--set {key}: none of the tasks has such a setting{suggest_nearest(first, known)}",
                "one of " + ", ".join(known),
            )
        for target in targets:
            nested: Any = value
            for part in reversed(path.split(".")):
                nested = {part: nested}
            chosen[target] = merge_mappings(chosen[target], nested)
    return chosen


def _fields(raw: Mapping[str, Any]) -> list[str]:
    plug_in = load_plug_in(TASKS, raw["kind"], Task)  # pyright: ignore[reportAbstractUsage]
    return list(plug_in.Config.model_fields)


def _build(raw: RawTask, values: Mapping[str, Any]) -> NamedTask:
    kind = str(values["kind"])
    settings = {key: value for key, value in values.items() if key != "kind"}
    return NamedTask(raw.name.replace(":", "."), kind, build_task(kind, settings, raw.name), raw.table)
