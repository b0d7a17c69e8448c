"""What pydantic finds wrong with a YAML file, said in one line each, with the nearest known key for an unknown one."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from maskwright.core.errors import suggest_nearest


class NestedProblems(ValueError):
    """What is wrong with options that are validated within a field, such as those of a plug-in.

    Attributes:
        problems: pairs of a dotted path within the field ("" for the field itself) and what is wrong there.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        """Keep the problems; the message joins them."""
        super().__init__("; ".join(f"{path}: {text}" if path else text for path, text in problems))
        self.problems = list(problems)


def problems_of(model: type[BaseModel] | None, error: ValidationError) -> list[tuple[str, str]]:
    """Return what is wrong, nested problems included, as pairs of a dotted path and a sentence.

    Args:
        model: what was validated; None if it is not known.
        error: what pydantic found.
    """
    found: list[tuple[str, str]] = []
    problems = error.errors()
    for problem in problems:
        # A list whose items were refused counts as empty: that is no problem of its own.
        if problem["type"] == "too_short" and any(is_within(each["loc"], problem["loc"]) for each in problems):
            continue
        path = path_of(problem)
        inner = problem.get("ctx", {}).get("error")
        if isinstance(inner, NestedProblems):
            found += [(".".join(part for part in (path, under) if part), text) for under, text in inner.problems]
        else:
            found.append((path, sentence_of(model, problem)))
    return found


def is_within(location: Sequence[int | str], outer: Sequence[int | str]) -> bool:
    """Return whether a location is inside another, and not the same."""
    return len(location) > len(outer) and location[: len(outer)] == outer


def problems_in_words(model: type[BaseModel] | None, error: ValidationError, whole: str) -> list[str]:
    """Return what is wrong, one line each; `whole` stands where a problem is of the whole, such as "recipe"."""
    return [f"{path or whole}: {text}" for path, text in problems_of(model, error)]


def problem_in_words(model: type[BaseModel] | None, problem: Any, whole: str) -> str:
    """Say one validation problem.

    Args:
        model: what was validated; None if it is not known.
        problem: an item of `ValidationError.errors()`.
        whole: what a problem of the whole is a problem of, such as "recipe".
    """
    return f"{path_of(problem) or whole}: {sentence_of(model, problem)}"


def path_of(problem: Any) -> str:
    """Return where a problem is, as a dotted path, without the tags of unions, which stand in brackets."""
    return ".".join(str(part) for part in problem["loc"] if not str(part).startswith("["))


def sentence_of(model: type[BaseModel] | None, problem: Any) -> str:
    """Return what is wrong, without where."""
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])
        return f"unknown key{suggest_nearest(key, keys_at(model, problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return "is missing"
    got = "" if problem["type"] == "value_error" else f", got {problem['input']!r:.60}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}{got}"


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
