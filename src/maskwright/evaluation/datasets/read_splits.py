"""Read a data set as its section of a YAML file says: rows, texts, targets, splits, all checked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.core.errors import EvaluationError, suggest_nearest
from maskwright.core.log import progress, warn
from maskwright.core.randomness import numpy_generator
from maskwright.evaluation.datasets.columns import BadRow, choices_of, expand_items, is_selected, value_at
from maskwright.evaluation.datasets.hub import rows_of_split
from maskwright.evaluation.datasets.labelled import LabelledTexts, Splits
from maskwright.evaluation.datasets.locate import LocatedData, locate
from maskwright.evaluation.datasets.section import DataSection, Kind, ReadingOptions, TestCut, format_value
from maskwright.evaluation.datasets.table_files import TableRow, rows_of_file
from maskwright.evaluation.datasets.targets import (
    ExampleReader,
    UnknownLabel,
    classes_of,
    collect_classes,
    find_repeated,
    index_classes,
)


@dataclass
class RawSplit:
    """The rows of a split, before classes have numbers.

    Attributes:
        origin: file, or name on the hub.
        reading: how its rows were read.
        texts: of each row.
        targets: of each row: the name of a class, a float, a list of names, a list of `Answer`.
        ids: of each row.
        strata: of each row; empty if there are none.
        locations: of each row, such as "line 3".
        records: of each row, the number of the record of the file that it is from.
        question_ids: of each row, where rows are choices; else empty.
        skipped: what was wrong with each row that was left out.
    """

    origin: str
    reading: ReadingOptions
    texts: list[tuple[str, ...]] = field(default_factory=list)
    targets: list[Any] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    strata: list[str] = field(default_factory=list)
    locations: list[str] = field(default_factory=list)
    records: list[int] = field(default_factory=list)
    question_ids: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def take(self, rows: Sequence[int]) -> "RawSplit":
        """Return some rows."""
        taken = RawSplit(self.origin, self.reading, skipped=self.skipped)
        for name in ("texts", "targets", "ids", "strata", "locations", "records", "question_ids"):
            column = getattr(self, name)
            setattr(taken, name, [column[row] for row in rows] if column else [])
        return taken


def read_splits(section: DataSection, kind: Kind, data: Path | None, title: str = "") -> Splits:
    """Read a data set.

    Args:
        section: `data` of the task's YAML.
        kind: what its labels are.
        data: the folder of `--data`; None if it is not given.
        title: of the task, for messages.

    Raises:
        MissingData: the data set is not there.
        EvaluationError: a row, a column or a label that can't be used, with file and line; an empty split.
    """
    found = locate(section, data, title)
    raw = {name: _raw_split(section, found, name, kind, title) for name in found.layout.files()}
    if found.layout.cut is not None:
        raw["train"], raw["test"] = _cut_split(raw["train"], found.layout.cut)
    classes: list[str] = []
    if kind in ("classification", "token_classification"):
        classes = classes_of(raw["train"].reading, raw["train"].targets)
        _require_known_classes(raw, classes, kind)
    finished = {name: _number_classes(split, classes) for name, split in raw.items()}
    notes = list(dict.fromkeys(_told(split) for split in raw.values() if split.skipped))
    for note in notes:
        warn(note)
    return Splits(
        finished["train"],
        finished["test"],
        finished.get("validation"),
        classes,
        finished.get("selected_by_babylm"),
        [found.layout.note] * bool(found.layout.note) + notes,
    )


def _raw_split(section: DataSection, found: LocatedData, name: str, kind: Kind, title: str) -> RawSplit:
    """Read one split.

    Raises:
        EvaluationError: it can't be used, with the line.
    """
    file = found.layout.files()[name]
    reading = file.over(found.layout.over(section))
    if found.layout.hub is not None:
        origin = f"hf:{found.layout.hub}/{file.file}"
        rows = rows_of_split(section, found.layout.hub, file.file, title)
    else:
        origin = str(found.paths[name])
        rows = rows_of_file(found.paths[name], reading)
    as_read = reading
    if reading.choices is not None:
        as_read = reading.model_copy(update={"label": "is_right", "labels": {"wrong": ["false"], "right": ["true"]}})
    split = RawSplit(origin, as_read)
    reader = ExampleReader(as_read, kind)
    with progress(f"Reading {origin}", None) as advance:
        for number, source in enumerate(_expand(rows, reading), start=1):
            _add(split, source, reader, kind)
            if number % 1000 == 0:
                advance(1000)
    if not split.ids:
        taken = " with " + " and ".join(f"{key} {' or '.join(value)}" for key, value in reading.where.items())
        raise EvaluationError(f"{origin} has no rows{taken if reading.where else ''}", f"rows for the split {name}")
    if (twice := find_repeated(split.ids)) is not None:
        raise EvaluationError(
            f"{origin}: {reading.id} {twice!r} stands twice",
            "an id of its own for each row",
            "name another column as id, or none",
        )
    return split


@dataclass(frozen=True)
class RowOrigin:
    """A row, and what it is a part of.

    Attributes:
        row: as it stands in the file, or made from a list or from choices.
        record: number of the record of the file that it is from.
        name: number of the record, with the number of the item of its list.
        choice: number of the choice that it is; None if there are no choices.
    """

    row: TableRow
    record: int
    name: str
    choice: int | None = None


def _expand(rows: Iterator[TableRow], reading: ReadingOptions) -> Iterator[RowOrigin]:
    """Yield rows; items of lists and choices become rows of their own."""
    for record, row in enumerate(rows, start=1):
        items = expand_items(row, reading.rows) if reading.rows and not row.problem else [row]
        for item, one in enumerate(items, start=1):
            name = f"{record}.{item}" if reading.rows else str(record)
            if reading.choices and not one.problem:
                for number, choice in enumerate(choices_of(one, reading)):
                    yield RowOrigin(choice, record, name, number)
            else:
                yield RowOrigin(one, record, name)


def _add(split: RawSplit, source: RowOrigin, reader: ExampleReader, kind: Kind) -> None:
    """Read a row into a split."""
    reading, row = split.reading, source.row
    try:
        if row.problem:
            raise BadRow(row.problem)
        if reading.where and not is_selected(row.values, reading.where):
            return
        example = reader.read(row.values)
        name = format_value(value_at(row.values, reading.id)) if reading.id else source.name
        stratum = format_value(value_at(row.values, reading.strata)) if reading.strata else None
    except BadRow as error:
        if not reading.skip_bad_rows:
            raise EvaluationError(
                f"{split.origin}, {row.location}: {error}",
                "rows as the task's YAML describes them",
                "mend the row or the YAML; skip_bad_rows: true leaves such rows out and counts them",
            ) from error
        split.skipped.append(f"{row.location}: {error}")
        return
    except UnknownLabel as error:
        wanted = "a number" if kind == "regression" else "one of the labels that the task's YAML names"
        raise EvaluationError(f"{split.origin}, {row.location}: {error}", wanted) from error
    split.texts.append(example.texts)
    split.targets.append(example.target)
    split.ids.append(name if source.choice is None else f"{name}.{source.choice}")
    split.locations.append(row.location)
    split.records.append(source.record)
    if stratum is not None:
        split.strata.append(stratum)
    if source.choice is not None:
        split.question_ids.append(name)


def _cut_split(split: RawSplit, cut: TestCut) -> tuple[RawSplit, RawSplit]:
    """Cut a split into training and test rows; rows of one record of the file stay together.

    Raises:
        EvaluationError: it has one record only.
    """
    records = np.unique(split.records)
    num_test = max(1, round(cut.test_fraction * len(records)))
    if num_test >= len(records):
        raise EvaluationError(f"{split.origin} has {len(records)} rows", "enough to cut them into training and test")
    held_back = set(numpy_generator(cut.seed, "data_cut").permutation(records)[:num_test].tolist())
    rows = range(len(split.ids))
    train = [row for row in rows if split.records[row] not in held_back]
    test = [row for row in rows if split.records[row] in held_back]
    return split.take(train), split.take(test)


def _require_known_classes(raw: dict[str, RawSplit], classes: Sequence[str], kind: Kind) -> None:
    """Refuse labels that can't be learned.

    A word's label may be missing in the training data if the YAML names it: rare parts of speech are.

    Raises:
        EvaluationError: a split has a label that the training data does not have, or the training data has only one.
    """
    train = raw["train"]
    learned = collect_classes(train.targets)
    if kind == "classification" and len(learned) < 2:
        raise EvaluationError(
            f"{train.origin}: every row is labelled {next(iter(learned))!r}", "training data with two classes or more"
        )
    known = learned if kind == "classification" else set(classes)
    for name, split in raw.items():
        for location, target in zip(split.locations, split.targets, strict=True):
            unknown = collect_classes([target]) - known
            if unknown:
                label = min(unknown)
                raise EvaluationError(
                    f"{split.origin}, {location}: the training data ({train.origin}) has no label {label!r}"
                    f"{suggest_nearest(label, known)}",
                    "one of " + ", ".join(one for one in classes if one in known),
                    f"mend the file, or say under labels of the split {name} which class the label stands for",
                )


def _number_classes(split: RawSplit, classes: Sequence[str]) -> LabelledTexts:
    """Return a split with classes as numbers."""
    index_of = {name: index for index, name in enumerate(classes)}
    targets = [index_classes(target, index_of) for target in split.targets]
    return LabelledTexts(split.ids, split.texts, targets, split.origin, split.strata, split.question_ids)


def _told(split: RawSplit) -> str:
    rows = "1 row was" if len(split.skipped) == 1 else f"{len(split.skipped):,} rows were"
    return f"{Path(split.origin).name}: {rows} left out, first {split.skipped[0]}"
