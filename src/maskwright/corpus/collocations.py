"""Collocations of a corpus: runs of words that stand together more often than chance, by pointwise mutual information.

Source: Levine et al. 2021, PMI-Masking, arXiv:2010.01825: PMI of n words is the least over all ways to cut them of
    log p(words) / product of p(pieces); runs of 2 to 5 words; half of the list are pairs, a quarter are triples, the
    rest are shared by the longer ones.
Departures: words are the tokenizer's; a run holds no token without a letter or digit; a run whose mutual information is
    not above 0 is left out; a longer run is counted only where both runs within it, shorter by a word, are frequent.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from pydantic import Field

from maskwright.core.errors import CorpusError
from maskwright.core.integrity import split_seal, write_sealed
from maskwright.core.log import progress, say
from maskwright.core.options import Options
from maskwright.corpus.corpus import Corpus, TokenSplit

FORMAT_VERSION = 1
BLOCK_TOKENS = 4_000_000
"""Tokens counted at once."""


class CollocationOptions(Options):
    """How collocations are found."""

    num_collocations: int = Field(default=50_000, ge=1, description="collocations to keep, at most")
    most_words: int = Field(default=5, ge=2, le=5, description="words in a collocation, at most")
    least_count: int = Field(default=10, ge=2, description="how often it must occur in the training text")


@dataclass(frozen=True)
class Collocation:
    """A run of words.

    Attributes:
        words: token ids of each word.
        count: how often it occurs in the training text.
        information: pointwise mutual information in nats.
    """

    words: tuple[tuple[int, ...], ...]
    count: int
    information: float


def word_hashes(token_ids: np.ndarray, word_starts: np.ndarray) -> np.ndarray:
    """Return a 64-bit hash of each word, uint64 [words]; equal tokens give equal hashes.

    Args:
        token_ids: int [tokens].
        word_starts: bool [tokens], true where a word begins; the first is.
    """
    starts = np.flatnonzero(word_starts)
    index = np.arange(len(token_ids)) - np.repeat(starts, np.diff(np.append(starts, len(token_ids))))
    with np.errstate(over="ignore"):
        return np.add.reduceat(_mixed(token_ids.astype(np.uint64) + _PLACE * (index + 1).astype(np.uint64)), starts)


def run_hashes(hashes_NW: np.ndarray) -> np.ndarray:
    """Return a 64-bit hash of each run of words, uint64 [N], from the hashes of its words."""
    index = np.arange(1, hashes_NW.shape[1] + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        return _mixed(hashes_NW + _PLACE * index).sum(axis=1, dtype=np.uint64)


_PLACE = np.uint64(0x9E3779B97F4A7C15)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Spread values over 64 bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Runs:
    """Frequent runs of one length: their hashes, ascending, the hashes of their words, and counts."""

    def __init__(self, num_words: int) -> None:
        """Begin empty."""
        self.keys = np.zeros(0, np.uint64)
        self.hashes_NW = np.zeros((0, num_words), np.uint64)
        self.counts = np.zeros(0, np.int64)

    def add(self, hashes_NW: np.ndarray) -> None:
        """Count runs."""
        keys, first, counts = np.unique(run_hashes(hashes_NW), return_index=True, return_counts=True)
        all_keys, where, inverse = np.unique(np.concatenate([self.keys, keys]), return_index=True, return_inverse=True)
        self.hashes_NW = np.concatenate([self.hashes_NW, hashes_NW[first]])[where]
        self.counts = np.bincount(inverse, np.concatenate([self.counts, counts]), len(all_keys)).astype(np.int64)
        self.keys = all_keys

    def keep(self, is_kept: np.ndarray) -> None:
        """Forget the others."""
        self.keys, self.hashes_NW, self.counts = self.keys[is_kept], self.hashes_NW[is_kept], self.counts[is_kept]

    def contains(self, hashes_NW: np.ndarray) -> np.ndarray:
        """Return which runs are among these: bool [N]."""
        return np.isin(run_hashes(hashes_NW), self.keys)

    def index_of(self, hashes_NW: np.ndarray) -> np.ndarray:
        """Return where runs lie, each of which is among these: int64 [N]."""
        return np.searchsorted(self.keys, run_hashes(hashes_NW))


def find_collocations(split: TokenSplit, is_wordlike_V: np.ndarray, options: CollocationOptions) -> list[Collocation]:
    """Return the collocations of a split, those with the most information first within each length.

    Memory grows with the number of different runs, not with the text.

    Args:
        split: of a corpus.
        is_wordlike_V: bool [V], tokens that may be part of a collocation.
        options: how many, how long, how frequent.
    """
    runs: list[Runs] = []
    tokens_of_word: dict[int, tuple[int, ...]] = {}
    with progress("collocations (tokens)", options.most_words * int(split.first_tokens[-1])) as advance:
        for num_words in range(1, options.most_words + 1):
            found = Runs(num_words)
            for words in _blocks_of_words(split, is_wordlike_V):
                found.add(_candidates(words, num_words, runs))
                if num_words == 1:
                    _note_tokens(words, tokens_of_word)
                advance(len(words.token_ids))
            found.keep(found.counts >= options.least_count)
            runs.append(found)
    total = int(runs[0].counts.sum())
    information = _information(runs, total)
    chosen: list[Collocation] = []
    for num_words, quota in _quotas(options).items():
        run, values = runs[num_words - 1], information[num_words - 1]
        order = np.lexsort((run.keys, -values))
        for index in order[values[order] > 0][:quota]:
            words = tuple(tokens_of_word[int(each)] for each in run.hashes_NW[index])
            chosen.append(Collocation(words, int(run.counts[index]), float(values[index])))
    return chosen


@dataclass(frozen=True)
class _Words:
    """The words of a run of documents.

    Attributes:
        token_ids: int64 [tokens].
        starts: int64 [words], where each begins.
        hashes: uint64 [words].
        is_wordlike: bool [words].
        document: int64 [words], which document each is of.
    """

    token_ids: np.ndarray
    starts: np.ndarray
    hashes: np.ndarray
    is_wordlike: np.ndarray
    document: np.ndarray


def _blocks_of_words(split: TokenSplit, is_wordlike_V: np.ndarray) -> Iterator[_Words]:
    for documents, tokens in split.blocks(BLOCK_TOKENS):
        starts = np.flatnonzero(tokens.word_starts)
        yield _Words(
            token_ids=tokens.token_ids,
            starts=starts,
            hashes=word_hashes(tokens.token_ids, tokens.word_starts),
            is_wordlike=np.logical_and.reduceat(is_wordlike_V[tokens.token_ids], starts),
            document=np.repeat(documents, split.document_lengths[documents])[starts],
        )


def _candidates(words: _Words, num_words: int, shorter: list[Runs]) -> np.ndarray:
    """Return the word hashes of all runs that may be frequent, uint64 [N, W]."""
    num_runs = len(words.hashes) - num_words + 1
    if num_runs <= 0:
        return np.zeros((0, num_words), np.uint64)
    windows_NW = np.lib.stride_tricks.sliding_window_view(words.hashes, num_words)
    is_candidate = np.lib.stride_tricks.sliding_window_view(words.is_wordlike, num_words).all(axis=1)
    is_candidate &= words.document[:num_runs] == words.document[num_words - 1 :]
    windows_NW = windows_NW[is_candidate]
    if num_words > 1:
        before = shorter[num_words - 2]
        windows_NW = windows_NW[before.contains(windows_NW[:, :-1]) & before.contains(windows_NW[:, 1:])]
    return windows_NW


def _note_tokens(words: _Words, tokens_of_word: dict[int, tuple[int, ...]]) -> None:
    """Remember the tokens of words that were not seen before."""
    hashes, first = np.unique(words.hashes, return_index=True)
    ends = np.append(words.starts[1:], len(words.token_ids))
    for each, index in zip(hashes.tolist(), first.tolist(), strict=True):
        if each not in tokens_of_word:
            tokens_of_word[each] = tuple(words.token_ids[words.starts[index] : ends[index]].tolist())


def _information(runs: list[Runs], total: int) -> list[np.ndarray]:
    """Return the pointwise mutual information of all runs, by length; 0 for single words.

    `best[n]` holds, for each run of n words, the largest log-probability of any way to cut it, not cutting included.
    """
    log_p = [np.log(run.counts / total) for run in runs]
    best, information = [log_p[0]], [np.zeros(len(log_p[0]))]
    for num_words in range(2, len(runs) + 1):
        hashes_NW = runs[num_words - 1].hashes_NW
        cut = np.full(len(hashes_NW), -np.inf)
        for first in range(1, num_words):
            head = log_p[first - 1][runs[first - 1].index_of(hashes_NW[:, :first])]
            tail = best[num_words - first - 1][runs[num_words - first - 1].index_of(hashes_NW[:, first:])]
            cut = np.maximum(cut, head + tail)
        information.append(log_p[num_words - 1] - cut)
        best.append(np.maximum(log_p[num_words - 1], cut))
    return information


def _quotas(options: CollocationOptions) -> dict[int, int]:
    """Return how many collocations of each length to keep: 1/2, 1/4, 1/8 ... of all, the longest share the rest."""
    lengths = range(2, options.most_words + 1)
    shares = {length: 0.5 ** (length - 1) for length in lengths}
    shares[options.most_words] = 1 - sum(share for length, share in shares.items() if length < options.most_words)
    return {length: round(share * options.num_collocations) for length, share in shares.items()}


def collocations_file(corpus: Corpus, options: CollocationOptions) -> Path:
    """Return where a corpus's collocations are kept."""
    facts = [FORMAT_VERSION, corpus.manifest.content_sha256, options.model_dump()]
    return corpus.folder / f"collocations-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]}.jsonl"


def prepare_collocations(corpus: Corpus, options: CollocationOptions) -> Path:
    """Find the collocations of a corpus's training text and write them next to it; an earlier result is reused.

    Raises:
        CorpusError: the tokenizer has no words.
        StorageError: the folder can't be written.
    """
    path = collocations_file(corpus, options)
    if path.exists():
        return path
    if not corpus.vocabulary.has_words:
        raise CorpusError(
            f"the tokenizer of {corpus.folder} does not say where words begin",
            "a tokenizer that splits text into words first",
        )
    with filelock.FileLock(path.with_name(f".{path.name}.lock")):
        if not path.exists():
            tokenizer = corpus.load_tokenizer()
            texts = tokenizer.convert_ids_to_tokens(list(range(corpus.vocabulary.size)))
            is_wordlike_V = np.array([any(letter.isalnum() for letter in text or "") for text in texts])
            is_wordlike_V[list(corpus.vocabulary.special_ids)] = False
            found = find_collocations(corpus.split("train"), is_wordlike_V, options)
            header = {
                "format_version": FORMAT_VERSION,
                "tokenizer_sha256": corpus.vocabulary.sha256,
                "corpus_sha256": corpus.manifest.content_sha256,
                "options": options.model_dump(),
                "num_collocations": len(found),
            }
            lines = [header, *(_as_line(each, tokenizer) for each in found)]
            write_sealed(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
            say(f"{len(found):,} collocations found: {path}")
    return path


def _as_line(found: Collocation, tokenizer: Any) -> dict[str, Any]:
    text = tokenizer.decode([token for word in found.words for token in word])
    return {"text": text, "count": found.count, "pmi": round(found.information, 4), "words": found.words}


def read_collocations(path: Path, tokenizer_sha256: str) -> list[Collocation]:
    """Read a list of collocations.

    Raises:
        CorpusError: there is none, it is damaged, or it was made for another tokenizer.
    """
    try:
        content, is_whole = split_seal(path.read_bytes(), path.suffix)
        if is_whole is False:
            raise ValueError("its checksum does not fit")
        header, *lines = [json.loads(line) for line in content.decode().splitlines()]
        made_for = header["tokenizer_sha256"] if header["format_version"] == FORMAT_VERSION else None
        if header.get("num_collocations", len(lines)) != len(lines):
            raise ValueError(f"it has {len(lines)} collocations, not {header['num_collocations']}")
        found = [
            Collocation(tuple(tuple(map(int, word)) for word in line["words"]), int(line["count"]), float(line["pmi"]))
            for line in lines
        ]
    except FileNotFoundError as error:
        raise CorpusError(
            f"{path} does not exist", "a list of collocations", "maskwright prepare RECIPE --collocations writes one"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(
            f"{path} is no list of collocations: {str(error)[:100]}",
            "the file as `maskwright prepare RECIPE --collocations` wrote it",
        ) from error
    if made_for != tokenizer_sha256:
        raise CorpusError(
            f"{path} was made for another tokenizer, with the checksum {str(made_for)[:12]}...",
            f"collocations of the tokenizer {tokenizer_sha256[:12]}...",
            "make them of this corpus: maskwright prepare RECIPE --collocations",
        )
    return found
