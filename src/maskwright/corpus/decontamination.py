"""Find documents that hold evaluation text, by word n-grams.

Source: Brown et al. 2020, arXiv:2005.14165, appendix C (13-grams of words, lower case, without punctuation).
Departures: a document with an overlap is dropped whole, not cut around it.
"""

import re
from collections.abc import Iterable

import numpy as np

WORD = re.compile(r"\w+")


class Decontaminator:
    """Knows the n-grams of evaluation texts and looks for them in documents."""

    def __init__(self, evaluation_texts: Iterable[str], ngram_words: int) -> None:
        """Collect the n-grams.

        Args:
            evaluation_texts: one text each; those of fewer words than an n-gram are never found.
            ngram_words: length of an n-gram.
        """
        self.ngram_words = ngram_words
        self._word_numbers: dict[str, int] = {}
        found = [np.zeros(0, np.uint64)]
        for text in evaluation_texts:
            numbers = [self._word_numbers.setdefault(word, len(self._word_numbers) + 1) for word in words_of(text)]
            found.append(self._hashes(np.array(numbers, np.uint64)))
        self._known = np.unique(np.concatenate(found))
        self._carried = np.zeros(0, np.uint64)

    @property
    def num_ngrams(self) -> int:
        """Number of different n-grams."""
        return len(self._known)

    def has_overlap(self, text: str, continues: bool) -> bool:
        """Return whether this text completes a known n-gram; `continues` if it goes on where the last one ended."""
        if not continues:
            self._carried = np.zeros(0, np.uint64)
        get = self._word_numbers.get
        numbers = np.array([get(word, 0) for word in words_of(text)], np.uint64)
        numbers = np.concatenate([self._carried, numbers])
        self._carried = numbers[max(0, len(numbers) - self.ngram_words + 1) :]
        return bool(np.isin(self._hashes(numbers), self._known).any())

    def _hashes(self, numbers: np.ndarray) -> np.ndarray:
        """Return the 64-bit hashes of all n-grams without an unknown word (number 0)."""
        hashes = ngram_hashes(numbers, self.ngram_words)
        num_unknown = np.cumsum(np.concatenate([[0], numbers == 0]))
        return hashes[num_unknown[self.ngram_words :] == num_unknown[: len(hashes)]]


def words_of(text: str) -> list[str]:
    """Return the words in lower case, without punctuation."""
    return WORD.findall(text.lower())


def ngram_hashes(numbers: np.ndarray, length: int) -> np.ndarray:
    """Return the 64-bit hashes of all n-grams of so many numbers, uint64 [max(0, numbers - length + 1)].

    Args:
        numbers: uint64 [numbers], such as the numbers of words.
        length: n.
    """
    factors = np.random.Generator(np.random.Philox(key=length)).integers(1, 2**63, length, dtype=np.uint64)
    hashes = np.zeros(max(0, len(numbers) - length + 1), np.uint64)
    for index, factor in enumerate(factors):
        hashes += numbers[index : index + len(hashes)] * factor
    return hashes
