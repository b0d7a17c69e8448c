"""Read all text once before it is tokenized: how much there is, a sample for the tokenizer, what to hold out."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from maskwright.core.errors import CorpusError
from maskwright.core.randomness import derived_seed
from maskwright.corpus.cleaning import CleanPiece, number_of, parts_of
from maskwright.corpus.config import DataConfig

LEAST_TAIL_FRACTION = 0.05
"""Of a corpus that is one single document, at least this share of its end is held out."""


@dataclass(frozen=True)
class HeldOutRule:
    """Which documents are held out: those with a number below `below`.

    The same text has the same number, so a copy of a held-out document is never trained on.

    Attributes:
        below: in (0, 1].
        only_document_cut: for a corpus of one single document, the character where its held-out end begins.
    """

    below: float
    only_document_cut: int | None = None

    def is_held_out(self, number: float) -> bool:
        """Return whether the document of that number is held out."""
        return number < self.below


@dataclass
class Survey:
    """What was found in all documents that are kept.

    Attributes:
        num_documents: their number.
        num_text_bytes: their size in UTF-8.
        lowest, highest: the extremes of their numbers.
        num_characters_of_first: the length of the first one.
        sample: pieces of text and the numbers of their documents, drawn evenly.
    """

    num_documents: int
    num_text_bytes: int
    lowest: float
    highest: float
    num_characters_of_first: int
    sample: list[tuple[float, str]]

    def held_out_rule(self, config: DataConfig) -> HeldOutRule:
        """Return the rule that holds out the share asked for, but at least one document, and leaves at least one.

        Raises:
            CorpusError: there is one document, too short to be cut in two.
        """
        if self.lowest == self.highest:
            tail = max(config.held_out_fraction, LEAST_TAIL_FRACTION)
            cut = math.floor(self.num_characters_of_first * (1 - tail))
            if self.num_characters_of_first < 40:
                raise CorpusError(
                    f"there are {self.num_characters_of_first} characters of text in one document",
                    "text to train on and text to hold out",
                    "give more text",
                )
            return HeldOutRule(1.0, cut)
        below = min(config.held_out_fraction, config.held_out_bytes / self.num_text_bytes)
        just_one = math.nextafter(self.lowest, 1.0)
        return HeldOutRule(min(max(below, just_one), self.highest))


def survey(pieces: Iterable[CleanPiece], sample_bytes: float, seed: int, advance: Callable[[float], None]) -> Survey:
    """Read all pieces.

    Args:
        pieces: every document of the corpus.
        sample_bytes: how much text to keep as a sample, drawn evenly; 0 for none, infinite for all.
        seed: decides the sample.
        advance: called with how many bytes were read.
    """
    found = Survey(0, 0, 1.0, 0.0, 0, [])
    sample = Sample(sample_bytes, seed)
    num_characters, num_bytes = 0, 0
    for piece in pieces:
        size = len(piece.text.encode())
        advance(size)
        num_characters += len(piece.text)
        num_bytes += size
        if sample_bytes and not piece.is_contaminated:
            for part in parts_of(piece):
                sample.offer(part)
        if piece.is_last:
            if not piece.is_contaminated:
                found.num_documents += 1
                found.num_text_bytes += num_bytes
                found.lowest, found.highest = min(found.lowest, piece.number), max(found.highest, piece.number)
                found.num_characters_of_first = found.num_characters_of_first or num_characters
            num_characters = num_bytes = 0
    found.sample = [(part.number, part.text) for _, part in sample.drawn]
    return found


class Sample:
    """A sample of a limited size from a stream of unknown length: too much, and half of it, by hash, is let go.

    Attributes:
        drawn: the sample: hash in [0, 1) and text.
    """

    def __init__(self, num_bytes: float, seed: int) -> None:
        """Begin empty."""
        self.drawn: list[tuple[float, CleanPiece]] = []
        self._limit, self._size, self._rate = num_bytes, 0, 1.0
        self._key = derived_seed(seed, "tokenizer sample").to_bytes(8, "little")

    def offer(self, part: CleanPiece) -> None:
        """Take a text or let it go."""
        draw = number_of(part.text, self._key)
        if draw >= self._rate and self.drawn:
            return
        self.drawn.append((draw, part))
        self._size += len(part.text.encode())
        while self._size > self._limit and len(self.drawn) > 1:
            self._rate /= 2
            kept = [drawn for drawn in self.drawn if drawn[0] < self._rate]
            self.drawn = kept or [min(self.drawn, key=lambda drawn: drawn[0])]
            self._size = sum(len(part.text.encode()) for _, part in self.drawn)


def with_only_document_cut(pieces: Iterable[CleanPiece], cut: int) -> Iterator[CleanPiece]:
    """Yield the one document as two: number 1 up to the character `cut`, number 0 after it; copies are left out."""
    position, is_over = 0, False
    for piece in pieces:
        if is_over:  # read on: what a source leaves out is known at its end
            continue
        here = min(max(cut - position, 0), len(piece.text))
        if here:
            yield CleanPiece(piece.text[:here], 1.0, is_last=position + here == cut)
        if here < len(piece.text):
            yield CleanPiece(piece.text[here:], 0.0, is_last=piece.is_last)
        position += len(piece.text)
        is_over = piece.is_last
