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
        targets: [N], by kind: int (index into the label names), float, list of int (one label per word), or
            `list[Answer]` (the accepted answers; none where the question has no answer).
        origin: file or hub name, for messages.
        strata: [N], the part of the data that a row belongs to; empty if there are no parts.
        question_ids: [N] for multiple choice, empty else: rows with one id are the choices of one question. The model's
            choice is the row with the highest score of class 1 ("right"); see `choose_answers`.
    """

    ids: Sequence[str]
    texts: Sequence[tuple[str, ...]]
    targets: Sequence[Any]
    origin: str
    strata: Sequence[str] = ()
    question_ids: Sequence[str] = ()

    def __len__(self) -> int:
        """Return N."""
        return len(self.ids)

    def take(self, index: np.ndarray) -> "LabelledTexts":
        """Return some rows, in the given order."""
        rows: list[int] = index.tolist()
        return LabelledTexts(
            [self.ids[row] for row in rows],
            [self.texts[row] for row in rows],
            [self.targets[row] for row in rows],
            self.origin,
            [self.strata[row] for row in rows] if self.strata else (),
            [self.question_ids[row] for row in rows] if self.question_ids else (),
        )

    def choose_answers(self, scores: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Turn scores of choices into answers of questions.

        Args:
            scores: float [N], how likely each row is the right choice; the first wins among equals.

        Returns:
            The ids of the Q questions; int64 [Q], number of the choice that the model takes; int64 [Q], of the right
            one.
        """
        rows_of: dict[str, list[int]] = {}
        for row, question in enumerate(self.question_ids):
            rows_of.setdefault(question, []).append(row)
        chosen = [int(np.argmax(scores[rows])) for rows in rows_of.values()]
        right = [int(np.argmax([self.targets[row] for row in rows])) for rows in rows_of.values()]
        return list(rows_of), np.array(chosen, dtype=np.int64), np.array(right, dtype=np.int64)


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
        validation: what the data set's authors give for choosing hyper-parameters; None if they give nothing (then a
            part of `train` is held back where something is to be chosen).
        label_names: names of the classes in order of their index; empty for numbers and answers.
        as_selected_by_babylm: what the BabyLM pipelines choose the best checkpoint on, where it is more than `test`.
        notes: what a reader must know about the data, in words, such as how many rows were left out.
    """

    train: LabelledTexts
    test: LabelledTexts
    validation: LabelledTexts | None = None
    label_names: Sequence[str] = ()
    as_selected_by_babylm: LabelledTexts | None = None
    notes: Sequence[str] = ()
