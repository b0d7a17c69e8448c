"""The contract of a source: it yields text, piece by piece, and knows what it was made from."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from maskwright.corpus.config import DataConfig

PIECE_CHARACTERS = 1 << 20
"""Sources hand out long documents in pieces of about this size, so that memory stays flat."""


@dataclass(frozen=True)
class Piece:
    """Text of one document, most often all of it.

    Attributes:
        text: the text as it is in the source.
        origin: where it stands, such as "novel.txt:17".
        is_last: false if the document goes on in the next piece.
    """

    text: str
    origin: str
    is_last: bool = True


class Source(ABC):
    """One file, or one collection that is not a file.

    A source in the file `sources/my_kind.py` is the class `MyKind`; it claims its files by `suffixes`, or names such
    as "my:thing" by `prefix`.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    prefix: ClassVar[str] = ""

    def __init__(self, name: str, config: DataConfig) -> None:
        """Remember what to read; nothing is opened yet.

        Args:
            name: a path, or the name that begins with `prefix`.
            config: how to read it.
        """
        self.name = name
        self.config = config
        self.dropped: Counter[str] = Counter()

    @abstractmethod
    def pieces(self) -> Iterator[Piece]:
        """Yield the text from the beginning, the same at every call; what is left out is counted in `dropped`.

        Raises:
            CorpusError: it can't be read; the message names the file and the line or byte.
        """

    @abstractmethod
    def num_text_bytes(self) -> int | None:
        """Return about how many bytes of text it holds, without reading it; None if that can't be known."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return what tells this text from another (sizes, times, versions), without reading it."""


BETWEEN_WORDS = re.compile(r"(?<=\S)\s(?=\S)")


def cut_position(text: str, position: int) -> int:
    """Return the first single white space between words from `position` on, within 10,000 characters; else `position`.

    Tokenizers split there too, so that the tokens of both parts are those of the whole: `test_encoding.py`.
    """
    match = BETWEEN_WORDS.search(text, position, position + 10_000)
    return match.start() if match else position
