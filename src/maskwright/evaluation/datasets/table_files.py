"""Rows of the file formats that data sets come in, each with its line, so that a message can name it."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwright.core.errors import EvaluationError
from maskwright.evaluation.datasets.section import FORMAT_BY_SUFFIX, Format, ReadingOptions

CONLLU_COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
"""Of the CoNLL-U format, https://universaldependencies.org/format.html."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of a file.

    Attributes:
        location: where it begins, such as "line 3", for messages.
        values: by column; of a JSON object as they are, of a CoNLL file one list per column.
        problem: what is wrong with it; empty if nothing is.
    """

    location: str
    values: dict[str, Any]
    problem: str = ""


def format_of(path: Path, reading: ReadingOptions) -> Format:
    """Return the format of a file.

    Raises:
        EvaluationError: neither the task nor the suffix says it.
    """
    found = reading.format or FORMAT_BY_SUFFIX.get(path.suffix.lower())
    if found is None:
        raise EvaluationError(
            f"{path}: the suffix {path.suffix!r} says nothing about the format",
            "a file that ends in " + ", ".join(FORMAT_BY_SUFFIX),
            "say it in the task's YAML, such as format: tsv",
        )
    return found


def rows_of_file(path: Path, reading: ReadingOptions) -> Iterator[TableRow]:
    r"""Yield the rows of a file. Lines end at "\n" only: texts may hold other line breaks of Unicode.

    Raises:
        EvaluationError: the file can't be read, with the line.
    """
    text = decode_file(path, reading.encoding)
    match format_of(path, reading):
        case "csv":
            yield from _table(path, text, ",", reading.quoting is not False, reading.columns)
        case "tsv":
            yield from _table(path, text, "\t", reading.quoting is True, reading.columns)
        case "jsonl":
            for number, line in _lines(text):
                if line.strip():
                    yield _json_row(f"line {number}", line)
        case "json":
            yield from _json_rows(path, text)
        case "conll":
            yield from _conll(text, reading.columns, is_conllu=False)
        case "conllu":
            yield from _conll(text, list(CONLLU_COLUMNS), is_conllu=True)


def decode_file(path: Path, encoding: str) -> str:
    """Return the text of a file, without a byte order mark.

    Raises:
        EvaluationError: it can't be read, or holds bytes that the encoding does not have.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EvaluationError(f"{path} can't be read: {error.strerror}", "the file of a data set") from error
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise EvaluationError(
            f"{path}, line {line}, byte {error.start}: not {encoding}",
            f"text in {encoding}",
            "say its encoding in the task's YAML, such as encoding: cp1252",
        ) from error


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        yield number, line.removesuffix("\r")


def _table(path: Path, text: str, delimiter: str, is_quoted: bool, columns: list[str] | None) -> Iterator[TableRow]:
    records = _read_quoted(path, text, delimiter) if is_quoted else _read_unquoted(text, delimiter)
    if columns is None:
        _, columns = next(records, (1, None))
        if columns is None:
            return
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise EvaluationError(
            f"{path}: two columns are named {twice!r}",
            "a header that names every column",
            "if the file has no header, name its columns in the task's YAML under columns",
        )
    for number, fields in records:
        if len(fields) == len(columns):
            yield TableRow(f"line {number}", dict(zip(columns, fields, strict=True)))
        else:
            yield TableRow(f"line {number}", {}, f"{len(fields)} columns, not {len(columns)} ({', '.join(columns)})")


def _read_unquoted(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in _lines(text):
        if line:
            yield number, line.split(delimiter)


def _read_quoted(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((f"{line}\n" for _, line in _lines(text)), delimiter=delimiter, strict=True)
    begin = 1
    try:
        for fields in reader:
            if fields:
                yield begin, fields
            begin = reader.line_num + 1
    except csv.Error as error:
        raise EvaluationError(
            f"{path}, line {begin}: {error}",
            "fields with quotes around them, or without any",
            "say quoting: false in the task's YAML if quotes are part of the text",
        ) from error


def _json_row(location: str, text: str) -> TableRow:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return TableRow(location, {}, f"no JSON: {error}")
    return _object_row(location, value)


def _object_row(location: str, value: Any) -> TableRow:
    if not isinstance(value, dict):
        return TableRow(location, {}, f"a JSON {type(value).__name__}, not an object")
    return TableRow(location, value)


def _json_rows(path: Path, text: str) -> Iterator[TableRow]:
    """Yield the object of a file, or the objects of a list; a file with an object a line is known by its look."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.lineno > 1:
            for number, line in _lines(text):
                if line.strip():
                    yield _json_row(f"line {number}", line)
            return
        raise EvaluationError(f"{path}, line {error.lineno}: no JSON: {error.msg}", "one JSON value") from error
    except RecursionError as error:
        raise EvaluationError(f"{path}: too many brackets inside one another", "rows of a data set as JSON") from error
    entries = value if isinstance(value, list) else [value]
    for number, entry in enumerate(entries, start=1):
        yield _object_row(f"entry {number}", entry)


def _conll(text: str, columns: list[str] | None, is_conllu: bool) -> Iterator[TableRow]:
    """Yield sentences: one list per column."""
    words: list[list[str]] = []
    facts: dict[str, Any] = {}
    begin, problem = 1, ""
    for number, line in _lines(f"{text}\n"):
        if is_conllu and line.startswith("#"):
            key, _, value = line[1:].partition("=")
            facts[key.strip()] = value.strip()
            continue
        if line.strip():
            begin = begin if words or problem else number
            fields = line.split("\t") if "\t" in line else line.split()
            if words and len(fields) != len(words[0]) and not problem:
                problem = f"{len(fields)} columns in line {number}, not {len(words[0])}"
            elif columns and len(fields) != len(columns) and not problem:
                problem = f"{len(fields)} columns in line {number}, not {len(columns)} ({', '.join(columns)})"
            words.append(fields)
            continue
        if words and (problem or words[0][0] != "-DOCSTART-"):
            yield _sentence(f"line {begin}", words, facts, columns, problem)
        words, facts, problem = [], {}, ""


def _sentence(
    location: str, words: list[list[str]], facts: dict[str, Any], columns: list[str] | None, problem: str
) -> TableRow:
    if problem:
        return TableRow(location, {}, problem)
    if columns is None:
        return TableRow(location, {"text": [word[0] for word in words], "label": [word[-1] for word in words]})
    if columns[0] == CONLLU_COLUMNS[0]:
        # Ranges such as 3-4 and empty nodes such as 3.1 stand next to the words that they describe.
        words = [word for word in words if word[0].isdigit()]
    return TableRow(location, facts | {name: [word[index] for word in words] for index, name in enumerate(columns)})
