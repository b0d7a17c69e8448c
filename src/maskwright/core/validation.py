"""What pydantic finds wrong with a YAML file, said in one line each, with the nearest known key for an unknown one."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from maskwright.core.errors import nearest


def problem_in_words(model: type[BaseModel] | None, problem: Any, whole: str) -> str:
    """Say one validation problem.

    Args:
        model: what was validated; None where it is not known.
        problem: an item of `ValidationError.errors()`.
        whole: what a problem of the whole is a problem of, such as "recipe".
    """
    place = [str(part) for part in problem["loc"]]
    where = ".".join(place) or whole
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key{nearest(place[-1], keys_at(model, problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return f"{where}: is missing"
    got = "" if problem["type"] == "value_error" else f", got {problem['input']!r:.60}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message[0].lower()}{message[1:]}{got}"


def keys_at(model: type[BaseModel] | None, path: Sequence[int | str]) -> list[str]:
    """Return the keys that the section at `path` has."""
    if model is None:
        return []
    for part in path:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            candidates = [annotation, *getattr(annotation, "__args__", ())]
            sections = [one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)]
            model = sections[0] if sections else model
    return list(model.model_fields)
