"""Texts to complete token sequences, as a model's own tokenizer makes them: specials, token types, truncation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding
from transformers import PreTrainedTokenizerFast

from maskwright.core.errors import EvaluationError
from maskwright.core.log import progress
from maskwright.tokenization.special_tokens import plain_text_encoder

TEXTS_PER_CALL = 4096
"""Texts that the tokenizer takes at once, on all cores."""


@dataclass(frozen=True)
class TokenSequences:
    """N complete token sequences, one after the other.

    Attributes:
        token_ids: int64 [T], special tokens included.
        segment_ids: int64 [T], token types; all 0 if the model's tokenizer gives none to its model.
        sizes: int64 [N], tokens of each.
        num_cut: how many texts were longer than the limit.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray
    sizes: np.ndarray
    num_cut: int = 0

    def __len__(self) -> int:
        """Return N."""
        return len(self.sizes)

    @property
    def starts(self) -> np.ndarray:
        """The first token of each sequence, int64 [N]."""
        return np.cumsum(self.sizes) - self.sizes


class TextEncoder:
    """A tokenizer with a limit. What a text spells, such as "[MASK]", is text and never a special token."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        """Take over a tokenizer; it is copied.

        Args:
            tokenizer: the model's. Its post-processor places the special tokens.
            max_length: longest sequence, special tokens included; longer ones are cut at their end, of two texts the
                longer one first.
        """
        self.max_length = max_length
        self._tokenizer = plain_text_encoder(tokenizer)
        self._side = tokenizer.truncation_side
        # What a model is not given by its own tokenizer, it has not learned to use.
        self._has_segments = "token_type_ids" in tokenizer.model_input_names

    def encode(self, texts: Sequence[tuple[str, ...]]) -> TokenSequences:
        """Return the sequences of texts or of pairs of texts."""
        encodings = self.encodings(texts)
        return self.sequences(encodings, num_cut(encodings))

    def encodings(
        self, texts: Sequence[tuple[str, ...]], strategy: str = "longest_first", stride: int = 0
    ) -> list[Encoding]:
        """Return what the tokenizer made of texts or pairs, with character offsets.

        Args:
            texts: [N], each one text or two.
            strategy: which of two texts is cut: "longest_first" or "only_second".
            stride: tokens that neighbouring windows of a text that is too long share; the further windows are the
                encoding's `overflowing`.
        """
        self._tokenizer.enable_truncation(self.max_length, stride=stride, strategy=strategy, direction=self._side)
        return [encoding for part in self._in_parts(texts) for encoding in part]

    def _in_parts(self, texts: Sequence[tuple[str, ...]]) -> Iterator[list[Encoding]]:
        with progress("Tokenizing", len(texts)) as advance:
            for first in range(0, len(texts), TEXTS_PER_CALL):
                part = [text[0] if len(text) == 1 else text for text in texts[first : first + TEXTS_PER_CALL]]
                yield self._tokenizer.encode_batch(part)
                advance(len(part))

    def shorten_texts(self, texts: Sequence[str], max_tokens: int) -> list[str]:
        """Return texts, those of more than `max_tokens` tokens without their ends."""
        self._tokenizer.enable_truncation(max_tokens)
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [
            text[: encoding.offsets[-1][1]] if encoding.overflowing else text
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def sequences(self, encodings: Sequence[Encoding], num_cut: int) -> TokenSequences:
        """Join encodings.

        Args:
            encodings: complete sequences.
            num_cut: how many texts were cut.

        Raises:
            EvaluationError: a text has no token, and the tokenizer adds none.
        """
        sizes = np.array([len(encoding) for encoding in encodings], dtype=np.int64)
        if not sizes.all():
            raise EvaluationError(
                f"text {int(np.argmin(sizes)) + 1} of {len(sizes)} has no token",
                "texts with a word, or a tokenizer that adds special tokens",
                "leave empty texts out of the data",
            )
        token_ids = concatenate([encoding.ids for encoding in encodings])
        segment_ids = concatenate([encoding.type_ids for encoding in encodings]) if self._has_segments else None
        return TokenSequences(
            token_ids,
            np.zeros_like(token_ids) if segment_ids is None else segment_ids,
            sizes,
            num_cut,
        )


def num_cut(encodings: Sequence[Encoding]) -> int:
    """Return how many texts were longer than the limit."""
    return sum(bool(encoding.overflowing) for encoding in encodings)


def concatenate(lists: Sequence[list[int]]) -> np.ndarray:
    """Return lists of numbers as one int64 array."""
    return np.concatenate([np.array(numbers, dtype=np.int64) for numbers in lists] or [np.zeros(0, dtype=np.int64)])
