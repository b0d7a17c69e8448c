"""What a task reads from a row: columns by name or path, templates, nested rows, choices."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from maskwright.core.errors import suggest_nearest
from maskwright.evaluation.datasets.section import ReadingOptions, format_value
from maskwright.evaluation.datasets.table_files import TableRow

PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
"""Where a template takes a column in; the name inside is looked up and never evaluated."""


class BadRow(ValueError):
    """A row that can't be used: an error, or counted where bad rows are skipped."""


def value_at(values: dict[str, Any], name: str) -> Any:
    """Return a column of a row; dots lead into objects, and numbers into lists.

    Raises:
        BadRow: the row has no such column; names the nearest.
    """
    if name in values:
        return values[name]
    found: Any = values
    for part in name.split("."):
        if isinstance(found, dict) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        else:
            raise BadRow(f"no column {name!r}{suggest_nearest(name, values)}; there are {', '.join(values) or 'none'}")
    return found


def text_of(values: dict[str, Any], template: str) -> str:
    """Return a column, or a template filled with columns.

    Raises:
        BadRow: the row has no such column, or what stands there is no text.
    """
    if "{" not in template:
        return _plain_value(values, template)
    return PLACEHOLDER.sub(lambda match: _plain_value(values, match[1]), template)


def _plain_value(values: dict[str, Any], name: str) -> str:
    value = value_at(values, name)
    if value is None or isinstance(value, dict | list):
        raise BadRow(f"{name} holds {'null' if value is None else 'a ' + type(value).__name__}, not text")
    return format_value(value)


def texts_of(values: dict[str, Any], text: str | Sequence[str]) -> tuple[str, ...]:
    """Return the text of a row, or its two texts."""
    return tuple(text_of(values, one) for one in ([text] if isinstance(text, str) else text))


def words_of(values: dict[str, Any], name: str) -> list[Any]:
    """Return a column that holds a list, such as the words of a sentence.

    Raises:
        BadRow: it holds none.
    """
    value = value_at(values, name)
    if not isinstance(value, list):
        raise BadRow(f"{name} holds {format_value(value)[:40]!r}, not a list with one item per word")
    return value


def is_selected(values: dict[str, Any], where: dict[str, list[str]]) -> bool:
    """Return whether a row is selected.

    Raises:
        BadRow: it has no such column.
    """
    return all(format_value(value_at(values, name)) in wanted for name, wanted in where.items())


def expand_items(row: TableRow, path: str) -> Iterator[TableRow]:
    """Yield a row for each item of a list inside a row, with all fields of the levels above it.

    Args:
        row: of a JSON file.
        path: to the list, such as "passage.questions.answers"; lists on the way are opened too. The columns of a new
            row have the same paths: "passage.questions.question".
    """
    try:
        values = list(_expand_row(row.values, path.split("."), path))
    except BadRow as error:
        yield replace(row, problem=str(error))
        return
    for number, one in enumerate(values, start=1):
        yield TableRow(f"{row.location}, item {number}", one)


def _expand_row(values: Any, parts: Sequence[str], path: str) -> Iterator[dict[str, Any]]:
    first, rest = parts[0], parts[1:]
    if not isinstance(values, dict) or first not in values:
        raise BadRow(
            f"there is no list at {path!r}{suggest_nearest(first, values) if isinstance(values, dict) else ''}"
        )
    inner = values[first]
    if not rest and not isinstance(inner, list):
        raise BadRow(f"what stands at {path!r} is no list")
    for item in inner if isinstance(inner, list) else [inner]:
        for below in _expand_row(item, rest, path) if rest else [item]:
            yield {**values, first: below}


def choices_of(row: TableRow, reading: ReadingOptions) -> Iterator[TableRow]:
    """Yield one row per choice: its text as the column `choice`, and as label whether it is the right one."""
    columns = reading.choices or []
    try:
        label = format_value(value_at(row.values, reading.label))
        texts = [_plain_value(row.values, column) for column in columns]
        if label not in [str(number) for number in range(len(columns))]:
            raise BadRow(f"{reading.label} is {label!r}, not the number of a choice from 0 to {len(columns) - 1}")
    except BadRow as error:
        yield replace(row, problem=str(error))
        return
    for number, text in enumerate(texts):
        yield TableRow(row.location, row.values | {"choice": text, "is_right": format_value(label == str(number))})
