"""The endless stream of rows: which pieces of which documents row number n holds, a function of (seed, n) alone."""

from dataclasses import replace

import numpy as np

from maskwright.batching.pack import assemble
from maskwright.batching.row_plan import Pieces, RowPlan
from maskwright.batching.segments import Segments
from maskwright.core.batches import PackedBatch
from maskwright.core.randomness import numpy_generator
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import TokenSplit


class RowStream:
    """Rows of one split, epoch after epoch; every epoch holds every token once, in an order of its own.

    Random access: nothing is remembered between calls but the last epochs' assignment, which is recomputed when
    needed. So the position of a run in its data is one integer.
    """

    def __init__(
        self,
        split: TokenSplit,
        vocabulary: Vocabulary,
        row_length: int,
        seed: int,
        stream: int = 0,
        may_cut: bool = True,
        runs: Segments | None = None,
    ) -> None:
        """Plan the rows (about 0.1 s per million documents).

        Args:
            split: where the tokens are.
            vocabulary: gives the special tokens.
            row_length: tokens in a row, with specials.
            seed: of the run.
            stream: number of the stream under this seed; every kind of rows in a run has its own.
            may_cut: whether documents may be cut to fill rows; false keeps every document that fits into a row whole.
            runs: runs of documents that are packed instead of the documents; None packs all of these whole.
        """
        self.row_length = row_length
        self._split = split
        self._vocabulary = vocabulary
        self._runs = runs
        self._plan = RowPlan(split.document_lengths if runs is None else runs.lengths, row_length, may_cut)
        self._seed, self._stream = seed, stream
        self._epochs: dict[int, Pieces] = {}

    @property
    def num_rows_per_epoch(self) -> int:
        """Rows in which every token of the split appears once."""
        return self._plan.num_rows

    def pieces(self, first_row: int, num_rows: int) -> Pieces:
        """Return what rows `first_row`, `first_row + 1`, ... hold; rows are counted over all epochs."""
        numbers = np.arange(first_row, first_row + num_rows)
        epochs, positions = np.divmod(numbers, self._plan.num_rows)
        parts = [self._epoch(int(epoch)).rows(positions[epochs == epoch]) for epoch in np.unique(epochs)]
        pieces = parts[0] if len(parts) == 1 else Pieces.joined(parts)
        if self._runs is None:
            return pieces
        runs = self._runs.take(pieces.documents)
        return replace(pieces, documents=runs.documents, starts=runs.starts + pieces.starts)

    def batch(self, first_row: int, num_rows: int) -> PackedBatch:
        """Return rows as a packed batch of `num_rows * row_length` tokens."""
        pieces = self.pieces(first_row, num_rows)
        tokens = self._split.gather_tokens(pieces.documents, pieces.starts, pieces.lengths)
        return assemble(pieces, tokens, self._vocabulary, self.row_length)

    def _epoch(self, epoch: int) -> Pieces:
        if epoch not in self._epochs:
            for old in sorted(self._epochs)[:-1]:
                del self._epochs[old]
            self._epochs[epoch] = self._plan.assign(numpy_generator(self._seed, "order", self._stream, epoch))
        return self._epochs[epoch]
