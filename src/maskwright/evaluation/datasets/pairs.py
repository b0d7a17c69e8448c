"""Minimal pairs as they lie on disk or on the hub: an acceptable and an unacceptable sentence each, by paradigm."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from maskwright.core.errors import EvaluationError, MissingData, MissingDependency
from maskwright.core.optional import load_optional
from maskwright.core.options import Options
from maskwright.core.randomness import numpy_generator
from maskwright.evaluation.datasets.locate import Whereabouts, find_files
from maskwright.evaluation.datasets.section import ReadingOptions
from maskwright.evaluation.datasets.table_files import rows_of_file


class PairFields(Options):
    """Which field of a row holds what."""

    good: str = Field(default="sentence_good", description="field with the acceptable sentence")
    bad: str = Field(default="sentence_bad", description="field with the unacceptable sentence")
    group: str | None = Field(
        default=None, description="field with the phenomenon of a pair; null: each file is a phenomenon of its own"
    )


@dataclass(frozen=True)
class Pairs:
    """N minimal pairs.

    Attributes:
        ids: [N], paradigm and line, such as "adjunct_island:17".
        good: [N], the acceptable sentences.
        bad: [N], the unacceptable ones.
        paradigm_index: int64 [N], the paradigm of each pair.
        paradigms: their names: "phenomenon/paradigm", or just "paradigm" where a paradigm is a phenomenon of its own.
    """

    ids: np.ndarray
    good: list[str]
    bad: list[str]
    paradigm_index: np.ndarray
    paradigms: list[str]

    def __len__(self) -> int:
        """Return N."""
        return len(self.ids)

    def take(self, index: np.ndarray) -> "Pairs":
        """Return some pairs, in the given order."""
        rows = index.tolist()
        good, bad = [self.good[row] for row in rows], [self.bad[row] for row in rows]
        return Pairs(self.ids[index], good, bad, self.paradigm_index[index], self.paradigms)

    def sample(self, max_pairs: int, seed: int) -> "Pairs":
        """Return at most `max_pairs` pairs of each paradigm, drawn at random, in their order."""
        kept = []
        for number, paradigm in enumerate(self.paradigms):
            members = np.flatnonzero(self.paradigm_index == number)
            generator = numpy_generator(seed, f"minimal_pairs:{paradigm}")
            kept.append(generator.permutation(members)[:max_pairs])
        return self.take(np.sort(np.concatenate(kept)))


def phenomena_of(paradigms: Sequence[str]) -> list[str]:
    """Return the phenomenon of each paradigm, from the paradigm's name."""
    return [paradigm.partition("/")[0] for paradigm in paradigms]


def find_pair_files(whereabouts: Whereabouts, files: Sequence[str], data: Path, title: str) -> list[Path]:
    """Return the files of a set of pairs; `data` may be such a file itself.

    Raises:
        MissingData: there are none.
    """
    if data.is_file():
        return [data]
    # macOS leaves a "._name.jsonl" next to each file that it unpacks.
    return [path for path in find_files(whereabouts, files, data, title) if not path.name.startswith(".")]


def read_pairs(files: Sequence[Path], fields: PairFields, group_names: Mapping[str, str]) -> Pairs:
    """Read files of pairs, one a paradigm: JSON lines, or tables with a header (`.csv`, `.tsv`).

    Args:
        files: the files.
        fields: which field of a row holds what.
        group_names: another name for a phenomenon, such as the one it is counted with.

    Raises:
        EvaluationError: a line that can't be read, or a file without any; names file, line and field.
    """
    return _pairs([(path.stem, _rows(path)) for path in files], fields, group_names)


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the rows of a file and where each stands."""
    is_empty = True
    for row in rows_of_file(path, ReadingOptions()):
        is_empty = False
        if row.problem:
            raise EvaluationError(f"{path}, {row.location}: {row.problem}", "a pair of sentences in every row")
        yield f"{path}, {row.location}", row.values
    if is_empty:
        raise EvaluationError(f"{path} is empty", "JSON lines (or a CSV or TSV file), each a pair of sentences")


def _pairs(
    sources: Sequence[tuple[str, Iterator[tuple[str, Mapping[str, Any]]]]],
    fields: PairFields,
    group_names: Mapping[str, str],
) -> Pairs:
    """Collect the rows of each paradigm."""
    index_of_paradigm: dict[str, int] = {}
    ids, good, bad, index = [], [], [], []
    for stem, rows in sources:
        for number, (location, row) in enumerate(rows):
            pair = tuple(_sentence(row, field, location) for field in (fields.good, fields.bad))
            paradigm = stem
            if fields.group is not None:
                group = _sentence(row, fields.group, location)
                paradigm = f"{group_names.get(group, group)}/{stem}"
            ids.append(f"{stem}:{number}")
            good.append(pair[0])
            bad.append(pair[1])
            index.append(index_of_paradigm.setdefault(paradigm, len(index_of_paradigm)))
    return Pairs(np.array(ids), good, bad, np.array(index, dtype=np.int64), list(index_of_paradigm))


def _sentence(row: Mapping[str, Any], field: str, location: str) -> str:
    """Return the text in a field of a row."""
    if field not in row:
        known = ", ".join(map(str, row)) or "none"
        raise EvaluationError(
            f"{location}: there is no field {field!r}",
            f"a field {field!r}; found: {known[:200]}",
            "name it under `fields`",
        )
    text = row[field]
    if not isinstance(text, str) or not text.strip():
        raise EvaluationError(f"{location}: {field} is {json.dumps(text)[:80]}", "text")
    return text


def load_hub_pairs(name: str, fields: PairFields, group_names: Mapping[str, str]) -> Pairs:
    """Read every configuration of a data set of the hub, one a paradigm.

    Args:
        name: such as "nyu-mll/blimp".
        fields: which field of a row holds what.
        group_names: another name for a phenomenon.

    Raises:
        MissingDependency: the library `datasets` is not installed.
        MissingData: the data set can't be reached.
        EvaluationError: a row that can't be read.
    """
    try:
        datasets = load_optional("datasets")
    except ImportError as error:
        raise MissingDependency(
            f"datasets is not installed, and {name} is to be read from the hub",
            "datasets, or the files in a folder named with --data",
            'pip install "maskwright[hub]"',
        ) from error
    try:
        configurations = datasets.get_dataset_config_names(name)
        loaded = [(one, datasets.load_dataset(name, one, split="train")) for one in configurations]
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        problem = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MissingData(
            f"{name} can't be read from the hub: {problem}",
            "a network, or the files in a folder",
            "name the folder with --data",
        ) from error
    by_file = [(one, ((f"{name}/{one}, row {row}", each) for row, each in enumerate(rows))) for one, rows in loaded]
    return _pairs(by_file, fields, group_names)


def sha256_of_pairs(pairs: Pairs) -> str:
    """Return the checksum of sentences and paradigms."""
    names = [pairs.paradigms[index] for index in pairs.paradigm_index.tolist()]
    content = json.dumps([list(pairs.good), list(pairs.bad), names])
    return hashlib.sha256(content.encode()).hexdigest()
