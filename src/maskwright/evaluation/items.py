"""The scored items, from which every score, interval and comparison is computed.

Scores are pure functions of these columns (`Task.scores`), so a bootstrap needs to know nothing about the task.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from maskwright.core.errors import CheckpointError
from maskwright.core.files import write_text_atomically


@dataclass(frozen=True)
class Items:
    """N scored items of one task, from one seed.

    Attributes:
        ids: [N], what names an item in its data set; unique.
        columns: numbers by name, each [N], such as "prediction" and "target", or the "credit" of a minimal pair.
        stratum_index: int64 [N], the part of the data that an item belongs to, such as a paradigm of BLiMP. Resampling
            keeps the size of every stratum.
        strata: the names of the parts; one if there are no parts.
        texts: text by name, each of length N, such as a predicted answer; scores don't depend on it.
    """

    ids: np.ndarray
    columns: Mapping[str, np.ndarray]
    stratum_index: np.ndarray
    strata: Sequence[str] = ("all",)
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return N."""
        return len(self.ids)

    def take(self, index: np.ndarray) -> Self:
        """Return the items at int64 indices, which may repeat; without their texts."""
        columns = {name: column[index] for name, column in self.columns.items()}
        return type(self)(self.ids[index], columns, self.stratum_index[index], self.strata)

    def write(self, path: Path) -> None:
        """Write one JSON object a line, atomically."""
        names = [self.strata[index] for index in self.stratum_index.tolist()]
        values = {name: column.tolist() for name, column in self.columns.items()} | dict(self.texts)
        rows = zip(self.ids.tolist(), names, *values.values(), strict=True)
        keys = ["id", "stratum", *values]
        lines = [json.dumps(dict(zip(keys, row, strict=True)), ensure_ascii=False) for row in rows]
        write_text_atomically(path, "".join(f"{line}\n" for line in lines))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n")]
            strata = list(dict.fromkeys(row["stratum"] for row in rows))
            index_of = {name: index for index, name in enumerate(strata)}
            values = {name: [row[name] for row in rows] for name in rows[0] if name not in ("id", "stratum")}
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise CheckpointError(
                f"{path} can't be read: {' '.join(str(error).split())[:200]}",
                "the items of a finished evaluation",
                "evaluate again with --again",
            ) from error
        are_texts = {name: bool(column) and isinstance(column[0], str) for name, column in values.items()}
        return cls(
            np.array([row["id"] for row in rows]),
            {name: np.array(column) for name, column in values.items() if not are_texts[name]},
            np.array([index_of[row["stratum"]] for row in rows], dtype=np.int64),
            strata,
            {name: column for name, column in values.items() if are_texts[name]},
        )
