"""Turn the labels of a file into what a model learns: classes, numbers, classes of words, answers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from maskwright.core.errors import suggest_nearest
from maskwright.evaluation.datasets.columns import BadRow, texts_of, value_at, words_of
from maskwright.evaluation.datasets.labelled import Answer
from maskwright.evaluation.datasets.section import Kind, ReadingOptions, format_value


class UnknownLabel(ValueError):
    """A label that is not among the known ones: an error even where bad rows are skipped."""


@dataclass(frozen=True)
class ParsedExample:
    """A row, read: `target` as it stands in the file, but checked and with its class by name."""

    texts: tuple[str, ...]
    target: Any


class ExampleReader:
    """Reads rows of one split."""

    def __init__(self, reading: ReadingOptions, kind: Kind) -> None:
        """Index the labels once."""
        self._reading = reading
        self._kind = kind
        self._class_by_value = {value: name for name, values in (reading.labels or {}).items() for value in values}

    def read(self, values: dict[str, Any]) -> ParsedExample:
        """Read a row.

        Returns:
            With a target by kind: the name of a class, a float, the names of the classes of words, a list of `Answer`.

        Raises:
            BadRow: it lacks something.
            UnknownLabel: its label is not one of those that the task names, or no number where it should be one.
        """
        reading = self._reading
        if self._kind == "token_classification":
            return self._words(values)
        texts = texts_of(values, reading.text)
        label = value_at(values, reading.label)
        if self._kind == "question_answering":
            if len(texts) != 2:
                raise BadRow("text names one column; it must name two, of the question and of the passage")
            return ParsedExample(texts, _answers(label, texts[1]))
        return ParsedExample(texts, _number(label) if self._kind == "regression" else self._class_name(label))

    def _words(self, values: dict[str, Any]) -> ParsedExample:
        text = self._reading.text
        if not isinstance(text, str):
            raise BadRow("text names two columns; the words of a sentence stand in one")
        words = [format_value(word) for word in words_of(values, text)]
        labels = words_of(values, self._reading.label)
        if len(words) != len(labels) or not words:
            raise BadRow(f"{len(words)} words and {len(labels)} labels")
        return ParsedExample(tuple(words), [self._class_name(label) for label in labels])

    def _class_name(self, label: Any) -> str:
        column = self._reading.label
        if isinstance(label, dict | list):
            raise UnknownLabel(f"{column} holds a {type(label).__name__}, not a label")
        text = format_value(label)
        if not text:
            raise UnknownLabel(f"{column} is empty")
        if not self._class_by_value:
            return text
        name = self._class_by_value.get(text)
        if name is None:
            known = list(self._class_by_value)
            raise UnknownLabel(
                f"{column} {text!r} is none of the labels {', '.join(known)}{suggest_nearest(text, known)}"
            )
        return name


def _number(label: Any) -> float:
    try:
        number = float(label)
    except (TypeError, ValueError) as error:
        raise UnknownLabel(f"{format_value(label)!r} is no number") from error
    if not math.isfinite(number):
        raise UnknownLabel(f"{format_value(label)!r} is no number that can be learned")
    return number


def _answers(label: Any, passage: str) -> list[Answer]:
    """Read answers as SQuAD has them, a list of objects, or as the hub has them, an object of lists."""
    if isinstance(label, dict):
        texts, starts = label.get("text"), label.get("answer_start")
    elif isinstance(label, list) and all(isinstance(one, dict) for one in label):
        texts, starts = [one.get("text") for one in label], [one.get("answer_start") for one in label]
    else:
        texts = starts = None
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise BadRow("the answers are no list of objects with text and answer_start")
    answers = []
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or not isinstance(start, int):
            raise BadRow(f"an answer is {text!r} at {start!r}, not a text at a number")
        if passage[start : start + len(text)] != text or start < 0:
            raise BadRow(f"the answer {text[:40]!r} does not stand at character {start} of the passage")
        answers.append(Answer(text, start))
    return answers


def classes_of(reading: ReadingOptions, targets: Iterable[Any]) -> list[str]:
    """Return the names of the classes in order of their index.

    Args:
        reading: of the training split; the classes that it names come first and in its order.
        targets: of the training split: names of classes, or lists of them.
    """
    if reading.labels is not None:
        return list(reading.labels)
    return sorted(collect_classes(targets), key=_number_first)


def collect_classes(targets: Iterable[Any]) -> set[str]:
    """Return the names of classes among targets."""
    found: set[str] = set()
    for target in targets:
        found.update([target] if isinstance(target, str) else target)
    return found


def _number_first(name: str) -> tuple[bool, int, str]:
    return (False, int(name), name) if name.lstrip("-").isdecimal() else (True, 0, name)


def index_classes(target: Any, index_of: dict[str, int]) -> Any:
    """Return a target with classes as their index; numbers and answers as they are."""
    if isinstance(target, str):
        return index_of[target]
    if isinstance(target, list) and target and isinstance(target[0], str):
        return [index_of[name] for name in target]
    return target


def find_repeated(ids: Sequence[str]) -> str | None:
    """Return an id that occurs twice; None if none does."""
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            return one
        seen.add(one)
    return None
