"""From the names on the command line to tasks: shipped YAML files, suites of them, a user's own, and plug-ins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from maskwright.core.discovery import load_plug_in, plug_in_names
from maskwright.core.errors import RecipeError, nearest
from maskwright.core.records import TableRecord
from maskwright.core.strict_yaml import load_yaml
from maskwright.evaluation.tasks.base import Task

TASKS = "maskwright.evaluation.tasks"


class Suite(BaseModel):
    """`suites/<name>.yaml`: tasks that make one table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(description="heading of the table")
    tasks: list[str] = Field(description="names of tasks, in the order of the table's rows", min_length=1)


@dataclass(frozen=True)
class NamedTask:
    """A task as it was asked for.

    Attributes:
        name: names its record.
        kind: the plug-in.
        task: configured.
        table: the suite it was asked for with; None where it was asked for alone.
    """

    name: str
    kind: str
    task: Task
    table: TableRecord | None = None

    @property
    def title(self) -> str:
        """What people call it."""
        return self.task.config.title or self.name


def known_names() -> list[str]:
    """Return everything that `--tasks` takes, sorted: suites, YAML tasks, and kinds that need no data to be named."""
    return sorted({*_shipped("suites"), *_shipped("tasks"), *filter(_stands_alone, plug_in_names(TASKS))})


def find_tasks(names: Sequence[str], settings: Mapping[str, Any]) -> list[NamedTask]:
    """Return the tasks for some names, suites resolved, each task once.

    Args:
        names: of suites, tasks or kinds, "module:Class", or paths of YAML files with a task or a suite.
        settings: values by dotted key: "cola.training.epochs" is for one task, "training.epochs" for every task that
            has a setting `training`.

    Raises:
        RecipeError: a name or a setting that does not exist, or a YAML file that can't be used.
    """
    raw_tasks: dict[str, tuple[dict[str, Any], TableRecord | None]] = {}
    for name in names:
        suite = _read_suite(name)
        members = [_raw_task(member) for member in (suite.tasks if suite else [name])]
        table = None
        if suite:
            titles = {member: str(raw.get("title") or member) for member, raw in members}
            table = TableRecord(name=Path(name).stem, title=suite.title, tasks=titles)
        for member, raw in members:
            raw_tasks[member] = raw, table or raw_tasks.get(member, ({}, None))[1]
    chosen = _settings_by_task({name: raw for name, (raw, _) in raw_tasks.items()}, settings)
    return [_build(name, _merged(raw, chosen[name]), table) for name, (raw, table) in raw_tasks.items()]


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
        place = ".".join(map(str, first["loc"]))
        known = list(plug_in.Config.model_fields)
        hint = nearest(place, known) if first["type"] == "extra_forbidden" else ""
        raise RecipeError(
            f"task {name or kind}: {place or 'settings'}: {first['msg'].removeprefix('Value error, ')}{hint}",
            "one of " + ", ".join(known),
        ) from error


def _shipped(folder: str) -> dict[str, Path]:
    place = Path(str(files("maskwright.evaluation") / folder))
    return {path.stem: path for path in sorted(place.glob("*.yaml"))}


def _stands_alone(kind: str) -> bool:
    """Return whether a kind needs no setting to be given."""
    plug_in = load_plug_in(TASKS, kind, Task)  # pyright: ignore[reportAbstractUsage]
    return not any(field.is_required() for field in plug_in.Config.model_fields.values())


def _read_suite(name: str) -> Suite | None:
    """Return the suite of a name or path; None where it names no suite."""
    path = _shipped("suites").get(name) or (Path(name) if _is_path(name) else None)
    raw = load_yaml(path) if path else {}
    if "tasks" not in raw:
        return None
    try:
        return Suite.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RecipeError(f"{path}: {place}: {first['msg']}", "a suite: title and tasks") from error


def _is_path(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _raw_task(name: str) -> tuple[str, dict[str, Any]]:
    """Return the name of a task's record, and its YAML with the key `kind`."""
    path = _shipped("tasks").get(name) or (Path(name) if _is_path(name) else None)
    if path is not None:
        raw = load_yaml(path)
        if not isinstance(raw.get("kind"), str):
            raise RecipeError(f"{path}: kind is missing", "one of " + ", ".join(plug_in_names(TASKS)))
        return path.stem, raw
    known = known_names()
    if ":" not in name and name not in plug_in_names(TASKS):
        raise RecipeError(
            f"no task is named {name!r}{nearest(name, known)}",
            "one of " + ", ".join(known) + ", or the path of a YAML file",
            "see: maskwright list tasks",
        )
    return name, {"kind": name}


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
                f"--set {key}: none of the tasks has such a setting{nearest(first, known)}",
                "one of " + ", ".join(known),
            )
        for target in targets:
            nested: Any = value
            for part in reversed(path.split(".")):
                nested = {part: nested}
            chosen[target] = _merged(chosen[target], nested)
    return chosen


def _fields(raw: Mapping[str, Any]) -> list[str]:
    plug_in = load_plug_in(TASKS, raw["kind"], Task)  # pyright: ignore[reportAbstractUsage]
    return list(plug_in.Config.model_fields)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested dictionaries with changes laid over them."""
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _build(name: str, raw: Mapping[str, Any], table: TableRecord | None) -> NamedTask:
    kind = str(raw["kind"])
    settings = {key: value for key, value in raw.items() if key != "kind"}
    return NamedTask(name.replace(":", "."), kind, build_task(kind, settings, name), table)
