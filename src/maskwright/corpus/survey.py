"""Read all text once before it is tokenized: how much there is, a sample for the tokenizer, what to hold out."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from maskwright.core.errors import CorpusError
from maskwright.core.randomness import derived_seed
from maskwright.corpus.cleaning import CleanPiece, number_of
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
        sample_bytes: how much text to keep as a sample; may be infinite. It is drawn evenly: when there is too much,
            half of it, by the pieces' hashes, is let go.
        seed: decides the sample.
        advance: told how many bytes were read.
    """
    found = Survey(0, 0, 1.0, 0.0, 0, [])
    key = derived_seed(seed, "tokenizer sample").to_bytes(8, "little")
    sample: list[tuple[float, CleanPiece]] = []
    rate, num_sampled_bytes = 1.0, 0
    num_characters, num_bytes = 0, 0
    for piece in pieces:
        size = len(piece.text.encode())
        advance(size)
        num_characters += len(piece.text)
        num_bytes += size
        draw = number_of(piece.text, key) if sample_bytes < math.inf else 0.0
        if draw < rate and not piece.is_contaminated and sample_bytes > 0:
            sample.append((draw, piece))
            num_sampled_bytes += size
            while num_sampled_bytes > sample_bytes and len(sample) > 1:
                rate /= 2
                sample = [(draw, piece) for draw, piece in sample if draw < rate]
                num_sampled_bytes = sum(len(piece.text.encode()) for _, piece in sample)
        if piece.is_last:
            if not piece.is_contaminated:
                found.num_documents += 1
                found.num_text_bytes += num_bytes
                found.lowest, found.highest = min(found.lowest, piece.number), max(found.highest, piece.number)
                found.num_characters_of_first = found.num_characters_of_first or num_characters
            num_characters = num_bytes = 0
    found.sample = [(piece.number, piece.text) for _, piece in sample]
    return found


def with_only_document_cut(pieces: Iterable[CleanPiece], cut: int) -> Iterator[CleanPiece]:
    """Yield the one document as two: number 1 up to the character `cut`, number 0 after it; copies are left out."""
    position = 0
    for piece in pieces:
        here = min(max(cut - position, 0), len(piece.text))
        if here:
            yield CleanPiece(piece.text[:here], 1.0, is_last=position + here == cut)
        if here < len(piece.text):
            yield CleanPiece(piece.text[here:], 0.0, is_last=piece.is_last)
        position += len(piece.text)
        if piece.is_last:
            return
