"""Several texts by weight: each row is of one of them, and each is read through before it is read again.

Source: Conneau and Lample 2019, Cross-lingual Language Model Pretraining, arXiv:1901.07291, section 3.1 (shares that
    grow with a power of a text's size); Devlin 2018, multilingual BERT (the same with the power 0.7).
Departures: shares are kept exactly in every 1000 rows, not in expectation, and no text has less than one of them.
Prefer: when a small text matters more than its size says, such as one language of many.
"""

import fnmatch
from pathlib import PurePath
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from maskwright.batching.pack import assemble
from maskwright.batching.row_plan import Pieces
from maskwright.batching.row_stream import RowStream
from maskwright.batching.samplers.base import Sampler, SamplerConfig
from maskwright.batching.segments import Segments
from maskwright.core.batches import PackedBatch
from maskwright.core.errors import CorpusError
from maskwright.core.randomness import derived_seed, numpy_generator
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import TokenSplit
from maskwright.corpus.shards import PREPARE_AGAIN

BLOCK_ROWS = 1000
"""Rows in which every text has its share."""


class MixtureConfig(SamplerConfig):
    """Options of `mixture`."""

    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        min_length=2,
        description="weight of each text, by a pattern of its files' names such as wiki/*; a file belongs to the first "
        "pattern that it matches",
    )
    temperature: float | None = Field(
        default=None,
        gt=0,
        description="null: the weights are the shares; else a text's share is its weight times its tokens to the power "
        "of 1 / temperature: 1 goes by size, 1.43 is multilingual BERT's, a large one makes all alike",
    )


class Mixture(Sampler):
    """Rows of several texts of one corpus, by weight."""

    Config = MixtureConfig

    def __init__(
        self, options: Any, split: TokenSplit, vocabulary: Vocabulary, row_length: int, seed: int, stream: int = 0
    ) -> None:
        """See `Sampler`.

        Raises:
            CorpusError: a file matches no pattern, or a pattern no file.
        """
        super().__init__(options, split, vocabulary, row_length, seed, stream)
        patterns = list(options.weights)
        texts = texts_of(split, patterns)
        seeds = [derived_seed(seed, "text", patterns.index(pattern)) for pattern in texts]
        self._streams = [
            RowStream(split, vocabulary, row_length, each_seed, stream, runs=text)
            for each_seed, text in zip(seeds, texts.values(), strict=True)
        ]
        weights = np.array([options.weights[pattern] for pattern in texts], np.float64)
        if options.temperature is not None:
            weights = weights * np.array([text.num_tokens for text in texts.values()]) ** (1 / options.temperature)
        self.rows_per_block = rows_by_weight(weights)

    @property
    def num_rows_per_epoch(self) -> int:
        """See `Sampler`: as many rows as all texts have, whatever the weights."""
        return sum(stream.num_rows_per_epoch for stream in self._streams)

    def batch(self, first_row: int, num_rows: int) -> PackedBatch:
        text_R, row_R = self._rows(first_row, num_rows)
        # The rows of one text follow one another in its own stream.
        chosen = [np.flatnonzero(text_R == text) for text in range(len(self._streams))]
        parts = [
            stream.pieces(int(row_R[rows[0]]), len(rows))
            for stream, rows in zip(self._streams, chosen, strict=True)
            if len(rows)
        ]
        pieces = Pieces.joined(parts).rows(np.argsort(np.concatenate(chosen)))
        tokens = self.split.gather_tokens(pieces.documents, pieces.starts, pieces.lengths)
        return assemble(pieces, tokens, self.vocabulary, self.row_length)

    def _rows(self, first_row: int, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the text of each row, and the number of the row among those of its text; int64 [R] each."""
        texts, rows = [], []
        for block in range(first_row // BLOCK_ROWS, (first_row + num_rows - 1) // BLOCK_ROWS + 1):
            order = numpy_generator(self.seed, "texts", self.stream, block).permutation(
                np.repeat(np.arange(len(self._streams)), self.rows_per_block)
            )
            rank = np.zeros(BLOCK_ROWS, np.int64)
            for text, num_rows_of_text in enumerate(self.rows_per_block):
                rank[order == text] = block * num_rows_of_text + np.arange(num_rows_of_text)
            begin = max(0, first_row - block * BLOCK_ROWS)
            end = min(BLOCK_ROWS, first_row + num_rows - block * BLOCK_ROWS)
            texts.append(order[begin:end])
            rows.append(rank[begin:end])
        return np.concatenate(texts), np.concatenate(rows)


def texts_of(split: TokenSplit, patterns: list[str]) -> dict[str, Segments]:
    """Return the documents of the files that each pattern matches, whole; a split may have none of some.

    Raises:
        CorpusError: a file matches no pattern, or a pattern no file.
    """
    if not split.documents_of_files:
        raise CorpusError(
            "the sampler mixture needs to know which file each document is from, which the corpus does not say",
            "a corpus that version 0.2 or later prepared",
            PREPARE_AGAIN,
        )
    matched = [next((i for i, pattern in enumerate(patterns) if matches(file, pattern)), -1) for file in split.files]
    if -1 in matched:
        raise CorpusError(
            f"no pattern of the mixture matches {split.files[matched.index(-1)]}",
            f"one of {', '.join(patterns)}",
            "add a pattern for it to `weights`, such as '*'",
        )
    text_of_document = np.repeat(matched, split.documents_of_files)
    texts = {}
    for index, pattern in enumerate(patterns):
        if index not in matched:
            raise CorpusError(
                f"the pattern {pattern!r} of the mixture matches no file of the corpus that is left for it",
                f"a pattern of some of its {len(split.files)} files, such as {split.files[0]}",
            )
        documents = np.flatnonzero(text_of_document == index)
        if len(documents):
            texts[pattern] = Segments(documents, np.zeros_like(documents), split.document_lengths[documents])
    return texts


def matches(file: str, pattern: str) -> bool:
    """Return whether a pattern matches a file's whole name or the last parts of its path."""
    return fnmatch.fnmatchcase(file, pattern) or PurePath(file).match(pattern)


def rows_by_weight(weights: np.ndarray) -> list[int]:
    """Return how many of `BLOCK_ROWS` rows each text gets: the largest remainders are rounded up, none gets no row."""
    exact = weights / weights.sum() * BLOCK_ROWS
    rows = np.floor(exact).astype(np.int64)
    rows[np.argsort(rows - exact, kind="stable")[: BLOCK_ROWS - int(rows.sum())]] += 1
    is_none = rows == 0
    rows[rows.argmax()] -= is_none.sum()
    rows[is_none] = 1
    return rows.tolist()
