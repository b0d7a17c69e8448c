"""Where words, sentences and paragraphs of a text begin: tokens with their marks, and how marks are found.

A sentence ends with one of . ! ? … 。 ！ ？ ।, closing quotes and brackets included, where white space follows and then
anything but a small letter; after 。 ！ ？ white space may be missing. A single capital letter before a full stop is an
initial ("J. Smith") and ends no sentence. A paragraph begins after a blank line, and begins a sentence. The rule knows
no language and no abbreviations, so "Dr. Smith" is cut; it needs no model and is the same everywhere.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from maskwright.core.batches import PARAGRAPH, SENTENCE, WORD
from maskwright.core.errors import CorpusError

MARKS = (WORD, SENTENCE, PARAGRAPH)
"""All marks that a corpus can have; that of words is always there."""

CLOSING = "\"'”’»)\\]}」』）"
BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*(?=\S)")
SENTENCE_END = re.compile(
    rf"(?<!\b[^\W\d_a-z])[.!?…।]+[{CLOSING}]*\s+(?=[^\sa-z])"  # not after an initial
    rf"|[。！？]+[{CLOSING}]*\s*(?=\S)"
)


@dataclass(frozen=True)
class MarkedTokens:
    """Tokens one after the other, and what begins at each.

    Attributes:
        token_ids: int [tokens].
        marks: bool [tokens] by name, true where such a unit of the text begins; `WORD` is always there.
    """

    token_ids: np.ndarray
    marks: Mapping[str, np.ndarray]

    @property
    def word_starts(self) -> np.ndarray:
        """Where words begin, bool [tokens]."""
        return self.marks[WORD]

    def __len__(self) -> int:
        """How many tokens there are."""
        return len(self.token_ids)

    def __getitem__(self, chosen: slice | np.ndarray) -> "MarkedTokens":
        """Return some of the tokens with their marks."""
        return MarkedTokens(self.token_ids[chosen], {name: starts[chosen] for name, starts in self.marks.items()})


def starts_in_text(text: str) -> dict[str, list[int]]:
    """Return where sentences and paragraphs begin in a text, in characters, ascending; its very beginning left out."""
    paragraphs = [match.end() for match in BLANK_LINE.finditer(text)]
    sentences = {match.end() for match in SENTENCE_END.finditer(text)} | set(paragraphs)
    return {SENTENCE: sorted(sentences), PARAGRAPH: paragraphs}


def tokens_at(positions: Sequence[int], token_ends: np.ndarray) -> np.ndarray:
    """Return bool [tokens], true for the first token that covers each position of a text, or comes after it.

    Args:
        positions: in characters, ascending.
        token_ends: int [tokens], where each token's characters end, ascending.
    """
    found = np.zeros(len(token_ends), bool)
    indices = np.searchsorted(token_ends, np.asarray(positions, np.int64), side="right")
    found[indices[indices < len(token_ends)]] = True
    return found


def require_marks(needed: Sequence[str], available: Sequence[str], what: str) -> None:
    """Refuse a corpus that lacks marks.

    Args:
        needed: names of marks.
        available: those of the corpus.
        what: needs them, for the message.

    Raises:
        CorpusError: some are missing.
    """
    missing = [name for name in needed if name not in available]
    if missing:
        raise CorpusError(
            f"{what} needs to know where each {' and '.join(missing)} begins, which the corpus does not say",
            "a corpus that was prepared for such a recipe",
            "prepare the text again, with this recipe",
        )
