"""What is done to documents before they are tokenized: normalise, drop and count, choose the held-out ones."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from maskwright.core.randomness import derived_seed
from maskwright.corpus.decontamination import Decontaminator
from maskwright.corpus.sources.base import Source, cut_position

HASHED_CHARACTERS = 1 << 16
"""A document is known by its beginning of this length, so that nothing longer need be held."""

TEXT_CHARACTERS = 1 << 14
"""Longer texts are sampled and encoded in parts, so that one long document keeps all cores busy."""


@dataclass(frozen=True)
class CleanPiece:
    """A piece of a document, ready for the tokenizer.

    Attributes:
        text: normalised text.
        number: in [0, 1), from the seed and the document's beginning: the same text has the same number.
        is_last: whether the document ends here.
        is_contaminated: whether the document, up to here, shares an n-gram with evaluation text: if it does at its
            end, it is dropped.
        source: index of the source that it is from.
    """

    text: str
    number: float
    is_last: bool
    is_contaminated: bool = False
    source: int = 0


@dataclass
class Cleaner:
    """Turns sources into clean pieces.

    Attributes:
        seed: decides the documents' numbers.
        decontaminator: finds evaluation text, if asked to.
        dropped: what was left out so far, by reason: documents, or pieces of invalid UTF-8.
    """

    seed: int
    decontaminator: Decontaminator | None = None
    dropped: Counter[str] = field(default_factory=Counter)

    def clean(self, sources: Iterable[Source]) -> Iterator[CleanPiece]:
        """Yield the documents of all sources, in order."""
        key = derived_seed(self.seed, "document").to_bytes(8, "little")
        for index, source in enumerate(sources):
            source.dropped.clear()
            number, is_inside, is_contaminated = 0.0, False, False
            for piece in source.pieces():
                text = unicodedata.normalize("NFC", piece.text)
                if not is_inside:
                    if piece.is_last and not text.strip():
                        self.dropped["empty"] += 1
                        continue
                    number, is_contaminated = number_of(text, key), False
                if self.decontaminator:
                    is_contaminated |= self.decontaminator.has_overlap(text, continues=is_inside)
                self.dropped["contaminated"] += is_contaminated and piece.is_last
                if is_inside or not (is_contaminated and piece.is_last):
                    yield CleanPiece(text, number, piece.is_last, is_contaminated, index)
                is_inside = not piece.is_last
            self.dropped.update(source.dropped)


def number_of(text: str, key: bytes) -> float:
    """Return a document's number in [0, 1)."""
    beginning = text[:HASHED_CHARACTERS].strip().encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(beginning, digest_size=8, key=key).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2**53


def parts_of(piece: CleanPiece) -> Iterator[CleanPiece]:
    """Yield a long piece in parts that end between words."""
    text, start = piece.text, 0
    while len(text) - start > TEXT_CHARACTERS:
        end = cut_position(text, start + TEXT_CHARACTERS)
        yield replace(piece, text=text[start:end], is_last=False)
        start = end
    if start == 0:
        yield piece
    else:
        yield replace(piece, text=text[start:])
