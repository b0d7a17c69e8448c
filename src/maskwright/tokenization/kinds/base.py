"""The contract of a kind of tokenizer: what is done to text, which characters get a token, and how it is trained.

To add one, write one file next to this one (`my_kind.py` with the class `MyKind`), or anywhere else and name it
"module:Class" in a recipe.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
from tokenizers import Tokenizer, normalizers

from maskwright.core.options import Options

CHARACTER_COVERAGE = 0.9999
"""Share of the text's characters that get a token; the rarest ones are unknown (SentencePiece's default is 0.9995)."""


class Kind(ABC):
    """A kind of tokenizer.

    Attributes:
        Config: class of its own options.
        mask_takes_space: whether `[MASK]` stands for a word with the space before it, as the words of this kind do.
        options: a `Config`.
        vocabulary_size: tokens at most, special ones included.
        lowercase: whether upper and lower case are the same.
    """

    Config: ClassVar[type[Options]] = Options
    mask_takes_space: ClassVar[bool] = False

    def __init__(self, options: Any, vocabulary_size: int, lowercase: bool) -> None:
        """Keep the options."""
        self.options, self.vocabulary_size, self.lowercase = options, vocabulary_size, lowercase

    @classmethod  # noqa: B027 - most have nothing to refuse
    def require_fit(cls, options: Any, vocabulary_size: int, lowercase: bool) -> None:
        """Refuse options that don't go together, when a recipe is read.

        Raises:
            ValueError: they don't.
        """

    def normalizer(self) -> normalizers.Normalizer:
        """Return what is done to text before it is split, so that users' text is treated as the corpus was."""
        steps: list[normalizers.Normalizer] = [normalizers.NFC()]
        if self.lowercase:
            steps.append(normalizers.Lowercase())
        return normalizers.Sequence(steps)

    def num_letters(self, counts: np.ndarray) -> int:
        """Return how many of the text's characters get a token.

        Args:
            counts: int64, how often each character occurs, the most frequent first; each at least once.
        """
        covered = np.cumsum(counts) / max(counts.sum(), 1)
        num_kept = int(np.searchsorted(covered, CHARACTER_COVERAGE)) + 1
        return max(1, min(num_kept, self.vocabulary_size // 4))

    @abstractmethod
    def train(self, texts: Iterable[str], alphabet: str) -> Tokenizer:
        """Return a tokenizer without special tokens by role; their texts may be in its vocabulary.

        Args:
            texts: as they are, not yet normalised.
            alphabet: the characters that get a token, the most frequent first; never empty.
        """


def keep_alphabet(alphabet: str, normalizer: normalizers.Normalizer, texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts, normalised, with a space for every character outside the alphabet."""
    is_known = np.zeros(0x110000, bool)
    is_known[np.frombuffer(alphabet.encode("utf-32-le"), "<u4")] = True
    for text in texts:
        codes = np.frombuffer(normalizer.normalize_str(text).encode("utf-32-le", "replace"), "<u4")
        yield np.where(is_known[codes], codes, ord(" ")).astype("<u4").tobytes().decode("utf-32-le")
