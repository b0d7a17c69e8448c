"""Documents cut from their starts: a segmentation that does not change from epoch to epoch, read batch by batch.

What is computed once for every token of a corpus, such as a teacher's hidden states, is computed in these sequences
`[CLS] segment [SEP]`. Training cuts and packs documents again in every epoch (`row_plan.RowPlan`). Here a document
that is not longer than a row is one whole segment.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from maskwright.batching.pack import assemble
from maskwright.batching.row_plan import NUM_SPECIALS, Pieces, pack_whole
from maskwright.core.batches import PackedBatch
from maskwright.core.ranges import expand_ranges
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import TokenSplit

PACKED_TOKENS = 1 << 17
"""Segments are packed in runs of about so many tokens: enough for nearly full rows, few enough to lie near in the
corpus. It is a constant, so that the order of the tokens depends only on the sequence length."""


READ_TOKENS = 1 << 20
"""Marks are read in blocks of about so many tokens."""


@dataclass(frozen=True)
class Segments:
    """Pieces of documents, in the order of the corpus.

    Attributes:
        documents: int64 [P], the document of each segment.
        starts: int64 [P], first token of the segment in its document.
        lengths: int64 [P], tokens, without specials.
    """

    documents: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, document_lengths: np.ndarray, sequence_length: int) -> "Segments":
        """Cut documents into segments of `sequence_length - 2` tokens; the last of each may be shorter.

        Args:
            document_lengths: int64 [documents], each at least 1.
            sequence_length: tokens in a row, with specials.
        """
        room = sequence_length - NUM_SPECIALS
        counts = -(-document_lengths // room)
        documents = np.repeat(np.arange(len(document_lengths)), counts)
        starts = expand_ranges(np.zeros_like(counts), counts) * room
        return cls(documents, starts, np.minimum(document_lengths[documents] - starts, room))

    @classmethod
    def of_units(cls, split: TokenSplit, unit: str, room: int) -> "Segments":
        """Cut documents where units begin, into runs of whole units that are as long as there is room.

        A longer unit is cut where the room ends.

        Args:
            split: has marks of the unit.
            unit: name of a mark.
            room: tokens of a run at most.
        """
        documents: list[int] = []
        begins: list[int] = []
        for document, starts in _unit_starts(split, unit):
            length, begin = int(split.document_lengths[document]), 0
            while begin < length:
                documents.append(document)
                begins.append(begin)
                end = begin + room
                if end < length:
                    latest = int(starts[np.searchsorted(starts, end, side="right") - 1])
                    end = latest if latest > begin else end
                begin = end
        found = np.array(documents, np.int64)
        starts = np.array(begins, np.int64)
        # A run ends where the next one of its document begins, the last one where the document does.
        next_starts = np.append(starts[1:], 0)
        is_last = np.append(found[1:] != found[:-1], True)
        return cls(found, starts, np.where(is_last, split.document_lengths[found], next_starts) - starts)

    def replaced(self, is_replaced: np.ndarray, other: "Segments") -> "Segments":
        """Return these segments, those of another where `is_replaced`, bool [P], says so."""
        return Segments(
            np.where(is_replaced, other.documents, self.documents),
            np.where(is_replaced, other.starts, self.starts),
            np.where(is_replaced, other.lengths, self.lengths),
        )

    def __len__(self) -> int:
        """How many there are."""
        return len(self.documents)

    @property
    def num_tokens(self) -> int:
        """Tokens of all, without specials."""
        return int(self.lengths.sum())

    def take(self, indices: np.ndarray | slice) -> "Segments":
        """Return some of them."""
        return Segments(self.documents[indices], self.starts[indices], self.lengths[indices])

    def sample(self, num_tokens: int, generator: np.random.Generator) -> "Segments":
        """Return segments drawn uniformly until they have `num_tokens`, in the order of the corpus; all, if fewer."""
        if self.num_tokens <= num_tokens:
            return self
        drawn = generator.permutation(len(self))
        count = int(np.searchsorted(np.cumsum(self.lengths[drawn]), num_tokens)) + 1
        return self.take(np.sort(drawn[:count]))

    def batches(
        self, split: TokenSplit, vocabulary: Vocabulary, sequence_length: int, batch_tokens: int
    ) -> Iterator[PackedBatch]:
        """Yield the segments packed whole, on the CPU; their tokens come in the same order however large batches are.

        Args:
            split: where the documents are.
            vocabulary: of its tokenizer.
            sequence_length: tokens in a row, as the segments were cut for.
            batch_tokens: tokens of a batch, with specials and padding; at least one row.
        """
        rows_per_batch = max(1, batch_tokens // sequence_length)
        ends = np.cumsum(self.lengths + NUM_SPECIALS)
        begin = 0
        while begin < len(self):
            full = (ends[begin - 1] if begin else 0) + PACKED_TOKENS
            end = max(begin + 1, int(np.searchsorted(ends, full, side="right")))
            part = self.take(slice(begin, end))
            packed = pack_whole(part.lengths, sequence_length)
            rows = Pieces(
                part.documents[packed.documents], part.starts[packed.documents], packed.lengths, packed.row_starts
            )
            for first in range(0, rows.num_rows, rows_per_batch):
                pieces = rows.rows(np.arange(first, min(first + rows_per_batch, rows.num_rows)))
                tokens = split.gather_tokens(pieces.documents, pieces.starts, pieces.lengths)
                yield assemble(pieces, tokens, vocabulary, sequence_length)
            begin = end


def _unit_starts(split: TokenSplit, unit: str) -> Iterator[tuple[int, np.ndarray]]:
    """Yield every document, and where its units begin, in tokens."""
    for documents, tokens in split.blocks(READ_TOKENS):
        starts = np.flatnonzero(tokens.marks[unit])
        begins = split.first_tokens[documents] - split.first_tokens[documents[0]]
        per_document = np.split(starts, np.searchsorted(starts, begins[1:]))
        yield from zip(documents.tolist(), map(np.subtract, per_document, begins), strict=True)
