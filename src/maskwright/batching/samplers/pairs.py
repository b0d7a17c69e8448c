"""Two pieces of text a row, `[CLS] a [SEP] b [SEP]`, and a label that says how they belong together.

Source: Devlin et al. 2019, BERT, arXiv:1810.04805 (b follows a, or is from another document); Lan et al. 2020, ALBERT,
    arXiv:1909.11942 (b follows a, or comes before it); Wang et al. 2020, StructBERT, arXiv:1908.04577 (all three).
Departures: a document is cut into runs of whole sentences that fill a row, the same in every epoch; where a run is
    divided, and what becomes of it, is drawn anew. A run in which no sentence begins is divided in the middle. Every
    row is one pair; BERT's shorter sequences (a tenth) are left out.
Prefer: when downstream tasks compare two texts, with a term that asks [CLS] for the label.
"""

from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from maskwright.batching.pack import assemble_pairs
from maskwright.batching.row_plan import Pieces
from maskwright.batching.samplers.base import Sampler, SamplerConfig
from maskwright.batching.segments import Segments
from maskwright.core.batches import SENTENCE, PackedBatch
from maskwright.core.errors import CorpusError
from maskwright.core.randomness import numpy_generator
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import TokenSplit
from maskwright.corpus.marks import MARKS

NEXT, SWAPPED, RANDOM = range(3)
"""Labels: b follows a; a follows b; b is from another document."""

NUM_PAIR_SPECIALS = 3
"""Tokens that a pair adds to its pieces: [CLS] and two [SEP]."""


class PairsConfig(SamplerConfig):
    """Options of `pairs`."""

    swapped_fraction: float = Field(
        default=0.5, ge=0, le=1, description="share of rows whose pieces change places, label 1 (ALBERT: 0.5)"
    )
    random_fraction: float = Field(
        default=0.0, ge=0, le=1, description="share whose second piece is from another document, label 2 (BERT: 0.5)"
    )

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.swapped_fraction + self.random_fraction > 1:
            raise ValueError("swapped_fraction and random_fraction make more than 1")
        return self


class Pairs(Sampler):
    """Two pieces a row: in their order, swapped, or from two documents."""

    Config = PairsConfig
    marks = MARKS
    is_of_documents = False
    gives_labels = True

    def __init__(
        self, options: Any, split: TokenSplit, vocabulary: Vocabulary, row_length: int, seed: int, stream: int = 0
    ) -> None:
        """See `Sampler`; finding the runs reads all marks once (about 0.3 s per 10 million tokens)."""
        super().__init__(options, split, vocabulary, row_length, seed, stream)
        runs = Segments.of_units(split, SENTENCE, row_length - NUM_PAIR_SPECIALS)
        self._runs = runs.take(runs.lengths >= 2)
        if not len(self._runs):
            raise CorpusError("no document has two tokens, so there are no pairs", "longer documents")
        if options.random_fraction > 0 and len(np.unique(self._runs.documents)) < 2:
            raise CorpusError(
                "random_fraction asks for pieces of another document, there is only one document",
                "two documents or more",
                "set `documents` (docs/data.md), or random_fraction: 0",
            )
        self._epochs: dict[int, np.ndarray] = {}

    @property
    def num_rows_per_epoch(self) -> int:
        """See `Sampler`: every run of sentences is divided once."""
        return len(self._runs)

    def batch(self, first_row: int, num_rows: int) -> PackedBatch:
        """See `Sampler`; `labels_S` has the labels, segments are 0 and 1."""
        chosen_R, draws_3R = self._rows(first_row, num_rows)
        runs = self._runs.take(chosen_R)
        cuts_R = self._cuts(runs, draws_3R[0])
        options = self.options
        is_swapped_R = draws_3R[1] < options.swapped_fraction
        is_random_R = ~is_swapped_R & (draws_3R[1] < options.swapped_fraction + options.random_fraction)
        first = Segments(runs.documents, runs.starts, cuts_R)
        second = Segments(runs.documents, runs.starts + cuts_R, runs.lengths - cuts_R)
        second = second.replaced(is_random_R, self._from_elsewhere(runs, cuts_R, draws_3R[2]))
        first, second = first.replaced(is_swapped_R, second), second.replaced(is_swapped_R, first)
        labels_R = np.select([is_swapped_R, is_random_R], [SWAPPED, RANDOM], NEXT)
        tokens = [self.split.gather_tokens(each.documents, each.starts, each.lengths) for each in (first, second)]
        each_in_its_row = np.arange(num_rows + 1)
        pieces = [Pieces(each.documents, each.starts, each.lengths, each_in_its_row) for each in (first, second)]
        return assemble_pairs(pieces, tokens, labels_R, self.vocabulary, self.row_length)

    def _rows(self, first_row: int, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the runs of some rows, int64 [R], and three random numbers in [0, 1) for each, [3, R]."""
        epochs, positions = np.divmod(np.arange(first_row, first_row + num_rows), self.num_rows_per_epoch)
        parts = [self._epoch(int(epoch))[:, positions[epochs == epoch]] for epoch in np.unique(epochs)]
        order_R, *draws = np.concatenate(parts, axis=1)
        return order_R.astype(np.int64), np.stack(draws)

    def _epoch(self, epoch: int) -> np.ndarray:
        """Return an epoch's order of the runs and the draws of each row, float64 [4, rows]."""
        if epoch not in self._epochs:
            for old in sorted(self._epochs)[:-1]:
                del self._epochs[old]
            generator = numpy_generator(self.seed, "pairs", self.stream, epoch)
            order = generator.permutation(len(self._runs)).astype(np.float64)
            self._epochs[epoch] = np.concatenate([order[None], generator.random((3, len(self._runs)))])
        return self._epochs[epoch]

    def _cuts(self, runs: Segments, draws_R: np.ndarray) -> np.ndarray:
        """Return after how many tokens each run is divided, int64 [R]: where a sentence begins, if one does inside."""
        tokens = self.split.gather_tokens(runs.documents, runs.starts, runs.lengths)
        ends_R = np.cumsum(runs.lengths)
        cuts_R = np.maximum(1, runs.lengths // 2)
        starts = np.flatnonzero(tokens.marks[SENTENCE])
        for row, (begin, end) in enumerate(zip(ends_R - runs.lengths, ends_R, strict=True)):
            inside = starts[np.searchsorted(starts, begin + 1) : np.searchsorted(starts, end)]
            if len(inside):
                cuts_R[row] = inside[int(draws_R[row] * len(inside))] - begin
        return cuts_R

    def _from_elsewhere(self, runs: Segments, cuts_R: np.ndarray, draws_R: np.ndarray) -> Segments:
        """Return a piece of another document for each row: the beginning of a run, as long as the row has room."""
        all_runs = self._runs
        drawn_R = (draws_R * len(all_runs)).astype(np.int64)
        # Runs of one document lie one after the other: the first run of the next document is always another's.
        next_document = np.searchsorted(all_runs.documents, all_runs.documents[drawn_R], side="right") % len(all_runs)
        drawn_R = np.where(all_runs.documents[drawn_R] == runs.documents, next_document, drawn_R)
        other = all_runs.take(drawn_R)
        room_R = self.row_length - NUM_PAIR_SPECIALS - cuts_R
        return Segments(other.documents, other.starts, np.minimum(other.lengths, room_R))
