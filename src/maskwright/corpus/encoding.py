"""Text to token arrays with every core busy, in the order of the text.

`tokenizers` encodes a batch on all cores without Python's lock; a second thread meanwhile turns the last batch into
arrays and a third reads the next. So the encoder never waits.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from maskwright.core.batches import WORD
from maskwright.core.errors import CorpusError
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.cleaning import CleanPiece, parts_of
from maskwright.corpus.marks import MarkedTokens, starts_in_text, tokens_at
from maskwright.tokenization.special_tokens import plain_text_encoder
from maskwright.tokenization.word_starts import word_start_table

BATCH_CHARACTERS = 1 << 19
"""Text encoded at once: enough to share among many cores, little enough to stay out of memory's way."""


@dataclass(frozen=True)
class EncodedBatch:
    """The tokens of a run of pieces.

    Attributes:
        pieces: what was encoded, none longer than about `cleaning.TEXT_CHARACTERS`.
        tokens: those of all pieces, one piece after the other; [tokens].
        lengths: tokens of each piece, int64 [pieces].
        num_words: words of each piece, between ASCII white space, int64 [pieces].
        num_bytes: size of each piece in UTF-8, int64 [pieces].
    """

    pieces: list[CleanPiece]
    tokens: MarkedTokens
    lengths: np.ndarray
    num_words: np.ndarray
    num_bytes: np.ndarray


class TextEncoder:
    """Encodes plain text to arrays; a text that spells a special token gets no special token."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        vocabulary: Vocabulary,
        dtype: np.dtype[Any],
        marks: Sequence[str] = (WORD,),
    ) -> None:
        """Prepare the tables.

        Args:
            tokenizer: any tokenizer.
            vocabulary: its vocabulary.
            dtype: type of the token ids.
            marks: what to mark; more than words takes the encodings' own offsets, which are slower.
        """
        self.further_marks = [mark for mark in marks if mark != WORD]
        self.backend = plain_text_encoder(tokenizer)
        self.unk_id, self.dtype = vocabulary.unk_id, dtype
        self.is_special = np.zeros(vocabulary.size, bool)
        self.is_special[list(vocabulary.special_ids)] = True
        if self.unk_id is not None:
            self.is_special[self.unk_id] = False
        self.begins_word = word_start_table(self.backend)

    def encode(self, pieces: list[CleanPiece]) -> EncodedBatch:
        """Encode the pieces; safe to call from several threads."""
        texts = [piece.text for piece in pieces]
        if self.begins_word is not None and not self.further_marks:
            encodings = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        else:
            encodings = self.backend.encode_batch(texts, add_special_tokens=False)
        lengths = np.array([len(encoding) for encoding in encodings], np.int64)
        ids = chain.from_iterable(encoding.ids for encoding in encodings)
        tokens = np.fromiter(ids, self.dtype, int(lengths.sum()))
        if self.begins_word is not None:
            word_starts = self.begins_word[tokens]
        else:
            word_starts = np.concatenate([np.zeros(0, bool), *map(starts_of_words, encodings)])
        marks = {WORD: word_starts}
        if self.further_marks:
            found = [marks_of(text, encoding) for text, encoding in zip(texts, encodings, strict=True)]
            marks |= {mark: np.concatenate([each[mark] for each in found]) for mark in self.further_marks}
        if self.is_special[tokens].any():
            tokens = self.without_special_tokens(tokens)
        in_utf8 = [text.encode() for text in texts]
        num_words = np.array([num_words_in(text) for text in in_utf8], np.int64)
        num_bytes = np.array([len(text) for text in in_utf8], np.int64)
        return EncodedBatch(pieces, MarkedTokens(tokens, marks), lengths, num_words, num_bytes)

    def without_special_tokens(self, tokens: np.ndarray) -> np.ndarray:
        """Replace special tokens, which some tokenizers find in text that spells them, by the unknown token."""
        if self.unk_id is None:
            raise CorpusError(
                "the tokenizer finds special tokens in plain text and has no unknown token to put there",
                "a tokenizer with one, or one that encodes such text as text",
                "train one (leave `existing` out)",
            )
        return np.where(self.is_special[tokens], self.unk_id, tokens).astype(self.dtype)


def starts_of_words(encoding: Any) -> np.ndarray:
    """Return bool [tokens], true where the word's number changes; a token outside words is one of its own."""
    words = np.array(encoding.word_ids, np.float64)  # None becomes NaN, which differs from everything
    starts = np.ones(len(words), bool)
    starts[1:] = words[1:] != words[:-1]
    return starts


def marks_of(text: str, encoding: Any) -> dict[str, np.ndarray]:
    """Return by mark bool [tokens], true where a sentence or a paragraph of the text begins; its beginning left out."""
    token_ends = np.array([end for _, end in encoding.offsets], np.int64)
    return {mark: tokens_at(positions, token_ends) for mark, positions in starts_in_text(text).items()}


def num_words_in(utf8: bytes) -> int:
    """Return how many words stand between ASCII white space and control characters; ten times as fast as `split`."""
    is_space = np.frombuffer(utf8, np.uint8) <= ord(" ")
    return int(np.count_nonzero(is_space[:-1] > is_space[1:])) + int(not is_space[:1].all())


def batches_of(pieces: Iterable[CleanPiece]) -> Iterator[list[CleanPiece]]:
    """Yield pieces, long ones cut, in runs of about `BATCH_CHARACTERS`.

    A document that turned out to be contaminated after its beginning was passed on ends its batch.
    """
    batch, size = [], 0
    for piece in pieces:
        for part in parts_of(piece):
            batch.append(part)
            size += len(part.text)
        if size >= BATCH_CHARACTERS or (piece.is_last and piece.is_contaminated):
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def encode_in_order(pieces: Iterable[CleanPiece], encoder: TextEncoder) -> Iterator[EncodedBatch]:
    """Encode all pieces on all cores and yield the batches in the order of the text."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    num_threads = 2
    waiting: deque[Future[EncodedBatch]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for batch in batches_of(pieces):
                waiting.append(pool.submit(encoder.encode, batch))
                if len(waiting) > num_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
