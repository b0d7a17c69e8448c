"""Pseudo-log-likelihoods of sentences: the likelihood of each token, given all the others.

Source: Salazar et al. 2020, Masked Language Model Scoring, arXiv:1910.14659 (`original`); Kauf & Ivanova 2023, A Better
    Way to Do Masked Language Model Scoring, arXiv:2305.10588 (`within_word_l2r`); Charpentier & Samuel 2024, GPT or
    BERT: why not both?, arXiv:2410.24159 (`mntp`).
Departures: none; `tests/unit/evaluation/test_pseudo_likelihood.py` compares every mode with a direct implementation.

Every token costs one forward pass of a copy of its sentence. Copies are made with array operations, sentences of one
length at a time, so no batch holds padding; copies that are equal are computed once, and they are many: the two
sentences of a minimal pair that differ by one token share the copy in which that token is hidden.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal
from unicodedata import normalize

import numpy as np
from transformers import PreTrainedTokenizerFast

from maskwright.batching.row_plan import NUM_SPECIALS
from maskwright.core.errors import EvaluationError
from maskwright.core.ranges import expand_ranges
from maskwright.evaluation.scorer import Cloze, MaskedLanguageModel
from maskwright.tokenization.special_tokens import plain_text_encoder

Mode = Literal["original", "within_word_l2r", "mntp"]

CHUNK_TOKENS = 1 << 22
"""Masked copies are made in chunks of at most so many tokens; memory does not grow with the number of sentences."""


@dataclass(frozen=True)
class TokenizedSentences:
    """N tokenized sentences, without special tokens.

    Attributes:
        token_ids: int64 [T], one sentence after the other.
        words: int64 [T], the number of each token's word in its sentence.
        starts: int64 [N + 1], cumulative; the last is T.
        is_truncated: bool [N], whether the end of a sentence was left out.
    """

    token_ids: np.ndarray
    words: np.ndarray
    starts: np.ndarray
    is_truncated: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sentence, int64 [N]."""
        return np.diff(self.starts)

    def take(self, index: np.ndarray) -> "TokenizedSentences":
        """Return some sentences, in the given order."""
        chosen_T = expand_ranges(self.starts[index], self.lengths[index])
        starts = np.concatenate([[0], np.cumsum(self.lengths[index])])
        return TokenizedSentences(self.token_ids[chosen_T], self.words[chosen_T], starts, self.is_truncated[index])

    @property
    def num_encoded_tokens(self) -> int:
        """Tokens of all masked copies, special tokens included: the most that scoring sends through the encoder."""
        return int((self.lengths * (self.lengths + NUM_SPECIALS)).sum())


@dataclass
class ScoringWork:
    """The work that scoring took.

    Attributes:
        num_copies: masked copies, one for each token of each sentence.
        num_forward_passes: of them, those that are different; each goes through the encoder once.
        num_encoded_tokens: tokens that went through the encoder, special tokens included.
    """

    num_copies: int = 0
    num_forward_passes: int = 0
    num_encoded_tokens: int = 0

    def __add__(self, other: "ScoringWork") -> "ScoringWork":
        """Return the sum of both."""
        return ScoringWork(
            self.num_copies + other.num_copies,
            self.num_forward_passes + other.num_forward_passes,
            self.num_encoded_tokens + other.num_encoded_tokens,
        )


def tokenize(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], max_tokens: int | None = None, leading_space: bool = False
) -> TokenizedSentences:
    """Tokenize texts, NFC-normalised; texts that are too long for the model are cut at the end.

    Args:
        tokenizer: the model's.
        texts: sentences. What looks like a special token is text.
        max_tokens: of a sentence, without special tokens: `MaskedLanguageModel.max_tokens`; None sets no limit.
        leading_space: put a space before each text, as the BabyLM pipelines of 2023 and 2024 do. It matters to
            byte-level tokenizers, for which "The" at the beginning and after a space are two tokens.

    Raises:
        EvaluationError: a text of which no token is left.
    """
    prefix = " " if leading_space else ""
    encoder = plain_text_encoder(tokenizer)
    encodings = encoder.encode_batch([prefix + normalize("NFC", text) for text in texts], add_special_tokens=False)
    ids = [encoding.ids[:max_tokens] for encoding in encodings]
    lengths = np.array([len(one) for one in ids], dtype=np.int64)
    if len(lengths) and lengths.min() == 0:
        raise EvaluationError(
            f"the tokenizer makes no token of {texts[int(lengths.argmin())]!r}", "a sentence of at least one token"
        )
    words = [encoding.word_ids[:max_tokens] for encoding in encodings]
    return TokenizedSentences(
        np.fromiter(chain.from_iterable(ids), np.int64, int(lengths.sum())),
        _number_words(np.array([-1 if word is None else word for word in chain.from_iterable(words)], dtype=np.int64)),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.array([len(encoding.ids) > len(kept) for encoding, kept in zip(encodings, ids, strict=True)], dtype=bool),
    )


def _number_words(word_ids: np.ndarray) -> np.ndarray:
    """Renumber words; a token without a word (-1) becomes its own word."""
    is_new = np.diff(word_ids, prepend=-2) != 0
    return np.cumsum(is_new | (word_ids < 0))


def pseudo_log_likelihoods(
    model: MaskedLanguageModel,
    sentences: TokenizedSentences,
    mode: Mode = "original",
    advance: Callable[[float], None] = lambda amount: None,
) -> tuple[np.ndarray, ScoringWork]:
    """Return the sum of the log-probabilities of each sentence's tokens, each hidden in turn.

    Args:
        model: scores the masked copies; its `tokens_per_batch` is the size of a batch.
        sentences: made by `tokenize` with the model's tokenizer.
        mode: `original` hides one token at a time; `within_word_l2r` hides the later tokens of its word as well, so
            that a word of several tokens is not given away by its own end; `mntp` reads the prediction of the hidden
            token one position to its left, for models that were trained to predict the next token there.
        advance: called with how many masked copies were done.

    Returns:
        float64 [N], natural logarithms, not divided by the length; and what it took.
    """
    model.compile_for(sentences.num_encoded_tokens)
    nats_T = np.empty(len(sentences.token_ids))
    work = ScoringWork(num_copies=len(nats_T))
    for chosen in _chunks(sentences.lengths):
        length = int(sentences.lengths[chosen[0]])
        index_NL = sentences.starts[chosen][:, None] + np.arange(length)
        token_ids_NL, words_NL = sentences.token_ids[index_NL], sentences.words[index_NL]
        copies_KL = mask_each_token(token_ids_NL, words_NL, model.vocabulary.mask_id, mode)
        asked_K = np.tile(np.arange(length), len(chosen)) - (mode == "mntp")
        nats_K, num_forward_passes = _nats(model, copies_KL, asked_K, token_ids_NL.ravel(), advance)
        nats_T[index_NL.ravel()] = nats_K
        work.num_forward_passes += num_forward_passes
        work.num_encoded_tokens += num_forward_passes * (length + NUM_SPECIALS)
    return -np.add.reduceat(nats_T, sentences.starts[:-1]) if len(nats_T) else np.empty(0), work


def mask_each_token(token_ids_NL: np.ndarray, words_NL: np.ndarray, mask_id: int, mode: Mode) -> np.ndarray:
    """Return a masked copy for each token of N sentences of L tokens, int64 [N * L, L]."""
    is_hidden_NLL = np.eye(token_ids_NL.shape[1], dtype=bool)[None]
    if mode == "within_word_l2r":
        is_later_LL = np.triu(np.ones_like(is_hidden_NLL[0]))
        is_hidden_NLL = (words_NL[:, :, None] == words_NL[:, None, :]) & is_later_LL
    copies_NLL = np.where(is_hidden_NLL, mask_id, token_ids_NL[:, None, :])
    return copies_NLL.reshape(-1, token_ids_NL.shape[1])


def _chunks(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the indices of sentences of one length, as many as make a chunk of copies; the longest first.

    Sentences keep their order, so that those that share copies come together.
    """
    order = np.argsort(-lengths, kind="stable")
    borders = np.flatnonzero(np.diff(lengths[order], prepend=-1))
    for group in np.split(order, borders[1:]) if len(order) else []:
        size = max(1, CHUNK_TOKENS // int(lengths[group[0]]) ** 2)
        yield from (group[first : first + size] for first in range(0, len(group), size))


def _nats(
    model: MaskedLanguageModel,
    copies_KL: np.ndarray,
    asked_K: np.ndarray,
    targets_K: np.ndarray,
    advance: Callable[[float], None],
) -> tuple[np.ndarray, int]:
    """Return minus the log-probability of each copy's target, float64 [K], and how many copies are different."""
    questions = np.column_stack([copies_KL, asked_K, targets_K])
    # Sorting puts equal copies together, and within them equal questions.
    different, question_K = np.unique(questions, axis=0, return_inverse=True)
    is_first = np.any(np.diff(different[:, :-2], axis=0, prepend=-1) != 0, axis=1)
    firsts = np.flatnonzero(is_first)
    asked, targets = np.ascontiguousarray(different[:, -2]), np.ascontiguousarray(different[:, -1])
    ends = np.append(firsts[1:], len(different)).tolist()
    clozes = (
        Cloze(different[first, :-2], asked[first:end], targets[first:end])
        for first, end in zip(firsts.tolist(), ends, strict=True)
    )
    nats = []
    for scores in model.score(clozes, with_ranks=False):
        nats.append(scores.nats)
        advance(len(scores.nats) * len(copies_KL) / len(different))
    return np.concatenate(nats)[question_K.ravel()], len(firsts)
