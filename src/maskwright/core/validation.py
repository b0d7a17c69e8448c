"""What pydantic finds wrong with a YAML file, said in one line each, with the nearest known key for an unknown one."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from maskwright.core.errors import nearest


def problem_in_words(model: type[BaseModel] | None, problem: Any, whole: str) -> str:
    """Say one validation problem.

    A part of its place that stands in brackets is the tag of a union, no key, and is left out.

    Args:
        model: what was validated; None where it is not known.
        problem: an item of `ValidationError.errors()`.
        whole: what a problem of the whole is a problem of, such as "recipe".
    """
    place = [str(part) for part in problem["loc"] if not str(part).startswith("[")]
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
            model = next(_sections(model.model_fields[part].annotation), model)
    return list(model.model_fields)


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models in an annotation, such as a union or a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections(inner)
