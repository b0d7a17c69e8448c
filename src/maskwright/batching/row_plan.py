"""Which pieces of documents share a row: decided from their lengths alone.

A row has room for `row_length` tokens. Every piece of a document becomes one sequence `[CLS] piece [SEP]`. Long
documents give pieces that fill a row; the rest is packed by *patterns*: the largest piece that fits, then the largest
that fits what is left, and so on; a pattern is applied as often as the pieces last. Only the histogram of lengths
enters, so the number of rows is the same in every epoch, and planning costs thousands of steps however large the
corpus. Where nothing fits, a document is cut to fill the row (full-sentences packing of RoBERTa, Liu et al. 2019,
section 4.2, but a sequence never holds two documents).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maskwright.core.ranges import expand_ranges

NUM_SPECIALS = 2
"""Tokens that a sequence adds to its piece: [CLS] and [SEP]."""


@dataclass(frozen=True)
class Pattern:
    """One way to fill a row, used for `num_rows` rows.

    Attributes:
        sizes: sequence sizes (with specials) from left to right.
        cut_size: size of the sequence whose beginning fills the row's end, None if no document is cut.
        num_rows: how often the pattern is used.
    """

    sizes: tuple[int, ...]
    cut_size: int | None
    num_rows: int


def smallest_fragment(row_length: int) -> int:
    """Return the fewest tokens of text (without specials) that cutting a document may leave on either side."""
    return max(2, row_length // 32)


def plan_patterns(num_of_size: np.ndarray, row_length: int, may_cut: bool) -> list[Pattern]:
    """Return the patterns that together use every sequence once.

    Args:
        num_of_size: int64 [row_length + 1], how many sequences have each size (with specials).
        row_length: tokens in a row.
        may_cut: whether documents may be cut to fill a row.
    """
    left = num_of_size.astype(np.int64).copy()
    patterns = []
    while (largest := _largest_available(left, row_length)) is not None:
        sizes: list[int] = []
        room = row_length
        while largest is not None:
            sizes.append(largest)
            left[largest] -= 1
            room -= largest
            largest = _largest_available(left, room)
        cut_size = _size_to_cut(left, room, row_length) if may_cut else None
        uses = Counter(sizes)
        if cut_size is not None:
            uses[cut_size] += 1
            left[cut_size] -= 1
        # The pieces of one row are taken already; more rows follow as long as every size lasts.
        more_rows = min(int(left[size]) // uses[size] for size in uses)
        for size, uses_per_row in uses.items():
            left[size] -= uses_per_row * more_rows
        patterns.append(Pattern(tuple(sizes), cut_size, 1 + more_rows))
        if cut_size is not None:
            left[cut_size - room + NUM_SPECIALS] += 1 + more_rows
    return patterns


def _largest_available(left: np.ndarray, limit: int) -> int | None:
    available = np.flatnonzero(left[: limit + 1])
    return int(available[-1]) if len(available) else None


def _size_to_cut(left: np.ndarray, room: int, row_length: int) -> int | None:
    """Return the largest sequence, if cutting it to fill `room` leaves fragments worth having."""
    largest = _largest_available(left, row_length)
    fragment = smallest_fragment(row_length)
    if largest is None or room - NUM_SPECIALS < fragment or largest - room < fragment:
        return None
    return largest


@dataclass(frozen=True)
class Pieces:
    """Pieces of documents by row.

    Attributes:
        documents: int64 [P], the document of each piece.
        starts: int64 [P], first token of the piece in its document.
        lengths: int64 [P], tokens of the piece, without specials.
        row_starts: int64 [rows + 1], the first piece of each row.
    """

    documents: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    row_starts: np.ndarray

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self.row_starts) - 1

    @classmethod
    def joined(cls, parts: Sequence["Pieces"]) -> "Pieces":
        """Return the rows of several, one after the other."""
        pieces_per_row = np.concatenate([np.diff(part.row_starts) for part in parts])
        return cls(
            np.concatenate([part.documents for part in parts]),
            np.concatenate([part.starts for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([[0], np.cumsum(pieces_per_row)]),
        )

    def rows(self, indices: np.ndarray) -> "Pieces":
        """Return the given rows, in the given order."""
        first, count = self.row_starts[indices], np.diff(self.row_starts)[indices]
        chosen = expand_ranges(first, count)
        return Pieces(
            self.documents[chosen], self.starts[chosen], self.lengths[chosen], np.concatenate([[0], np.cumsum(count)])
        )


class RowPlan:
    """The rows of a set of documents; which document takes which position is drawn again every epoch."""

    def __init__(self, document_lengths: np.ndarray, row_length: int, may_cut: bool = True) -> None:
        """Plan the rows.

        Args:
            document_lengths: int64 [B], tokens of each document, without specials.
            row_length: tokens in a row, with specials.
            may_cut: whether a document that fits into a row may be cut to fill another row.
        """
        self.row_length = row_length
        self._lengths = document_lengths.astype(np.int64)
        room = row_length - NUM_SPECIALS
        self._num_full, self._rests = np.divmod(self._lengths, room)
        sizes = self._rests[self._rests > 0] + NUM_SPECIALS
        self._patterns = plan_patterns(np.bincount(sizes, minlength=row_length + 1), row_length, may_cut)
        self.num_rows = int(self._num_full.sum()) + sum(pattern.num_rows for pattern in self._patterns)

    def assign(self, generator: np.random.Generator) -> Pieces:
        """Fill the plan's positions with documents drawn at random and put the rows into random order.

        The rest of a long document, which does not fill a row, is taken from a random position between its full pieces.
        So documents are cut at other positions in every epoch.

        Args:
            generator: the epoch's.
        """
        rest_rank = generator.integers(0, self._num_full + 1)
        full = self._full_pieces(rest_rank)
        packed = self._packed_pieces(rest_rank, generator)
        row_lengths = np.concatenate([np.ones(len(full[0]), dtype=np.int64), packed[3]])
        ordered = Pieces(
            *(np.concatenate(pair) for pair in zip(full, packed[:3], strict=True)),
            row_starts=np.concatenate([[0], np.cumsum(row_lengths)]),
        )
        return ordered.rows(generator.permutation(self.num_rows))

    def _full_pieces(self, rest_rank: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        room = self.row_length - NUM_SPECIALS
        documents = np.repeat(np.arange(len(self._lengths)), self._num_full)
        rank = expand_ranges(np.zeros_like(self._num_full), self._num_full)
        starts = rank * room + np.where(rank >= rest_rank[documents], self._rests[documents], 0)
        return documents, starts, np.full(len(documents), room)

    def _packed_pieces(
        self, rest_rank: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return documents, starts and lengths of the packed pieces row by row, and the pieces of each row."""
        room = self.row_length - NUM_SPECIALS
        shuffled = generator.permutation(np.flatnonzero(self._rests))
        shuffled = shuffled[np.argsort(self._rests[shuffled], kind="stable")]
        borders = np.searchsorted(self._rests[shuffled], np.arange(self.row_length + 1) - NUM_SPECIALS)
        # Per size, what is still to be placed: [2, n] documents and starts, used from the left.
        shelves = [
            np.stack([documents, rest_rank[documents] * room])
            for documents in (shuffled[borders[size] : borders[size + 1]] for size in range(self.row_length))
        ]
        positions: list[np.ndarray] = []
        pieces_per_row: list[np.ndarray] = []
        for pattern in self._patterns:
            columns = [self._take(shelves, size, pattern.num_rows, size) for size in pattern.sizes]
            if pattern.cut_size is not None:
                filled = self.row_length - sum(pattern.sizes)
                column = self._take(shelves, pattern.cut_size, pattern.num_rows, filled)
                columns.append(column)
                rest = column[:2] + np.array([[0], [filled - NUM_SPECIALS]])
                rest_size = pattern.cut_size - filled + NUM_SPECIALS
                shelves[rest_size] = np.concatenate([shelves[rest_size], rest], axis=1)
            positions.append(np.stack(columns, axis=2).reshape(3, -1))
            pieces_per_row.append(np.full(pattern.num_rows, len(columns)))
        if not positions:
            empty = np.zeros(0, dtype=np.int64)
            return empty, empty, empty, empty
        documents, starts, lengths = np.concatenate(positions, axis=1)
        return documents, starts, lengths, np.concatenate(pieces_per_row)

    @staticmethod
    def _take(shelves: list[np.ndarray], size: int, num_rows: int, used_size: int) -> np.ndarray:
        """Take sequences of one size off their shelf: [3, rows] documents, starts, lengths of what is used."""
        taken, shelves[size] = shelves[size][:, :num_rows], shelves[size][:, num_rows:]
        return np.concatenate([taken, np.full((1, num_rows), used_size - NUM_SPECIALS)])


def pack_whole(lengths: np.ndarray, row_length: int) -> Pieces:
    """Pack sequences that must stay whole, in as few rows as the patterns find.

    Args:
        lengths: int64 [B], tokens of each sequence without specials, at most `row_length - NUM_SPECIALS`; negative for
            a sequence that has fewer tokens in all than there are specials.
        row_length: tokens in a row.

    Returns:
        The pieces; `documents` are indices into `lengths`, every `start` is 0.
    """
    order = np.argsort(lengths, kind="stable")
    sizes = lengths[order] + NUM_SPECIALS
    cursor = np.searchsorted(sizes, np.arange(row_length + 2))
    documents: list[int] = []
    pieces_per_row: list[int] = []
    for pattern in plan_patterns(np.bincount(sizes, minlength=row_length + 1), row_length, may_cut=False):
        for _ in range(pattern.num_rows):
            for size in pattern.sizes:
                documents.append(int(order[cursor[size]]))
                cursor[size] += 1
            pieces_per_row.append(len(pattern.sizes))
    chosen = np.array(documents, dtype=np.int64)
    row_starts = np.concatenate([[0], np.cumsum(pieces_per_row, dtype=np.int64)])
    return Pieces(chosen, np.zeros_like(chosen), lengths[chosen], row_starts)
