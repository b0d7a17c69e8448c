"""Labelled texts: what every data set becomes before a model sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class LabelledTexts:
    """N rows of one split.

    Attributes:
        ids: [N], what names a row: its id in the data set, or its number in the file.
        texts: [N], the text or the two texts of a row; for token classification the words of a sentence.
        targets: [N], by kind: int (index into the label names), float, list of int (a label a word), or
            `list[Answer]` (the accepted answers; none where the question has no answer).
        origin: file or hub name, for messages.
        strata: [N], the part of the data that a row belongs to; "all" where there are no parts.
    """

    ids: Sequence[str]
    texts: Sequence[tuple[str, ...]]
    targets: Sequence[Any]
    origin: str
    strata: Sequence[str] = ()

    def __len__(self) -> int:
        """Return N."""
        return len(self.ids)

    def take(self, index: np.ndarray) -> "LabelledTexts":
        """Return some rows, in the given order."""
        rows = index.tolist()
        return LabelledTexts(
            [self.ids[row] for row in rows],
            [self.texts[row] for row in rows],
            [self.targets[row] for row in rows],
            self.origin,
            [self.strata[row] for row in rows] if self.strata else (),
        )


@dataclass(frozen=True)
class Answer:
    """An accepted answer of a question about a passage.

    Attributes:
        text: as annotated.
        start: its first character in the passage.
    """

    text: str
    start: int


@dataclass(frozen=True)
class Splits:
    """A data set.

    Attributes:
        train: what is learned from.
        test: what is reported.
        validation: what the data set's authors give for choosing hyper-parameters; None where they give nothing (then a
            part of `train` is held back where something is to be chosen).
        label_names: names of the classes in order of their index; empty for numbers and answers.
        as_selected_by_babylm: what the BabyLM pipelines choose the best checkpoint on, where it is more than `test`.
    """

    train: LabelledTexts
    test: LabelledTexts
    validation: LabelledTexts | None = None
    label_names: Sequence[str] = ()
    as_selected_by_babylm: LabelledTexts | None = None
