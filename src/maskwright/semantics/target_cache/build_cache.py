"""Fills a cache of targets: every document of the train split through the teacher once, packed, part by part.

The order of work is what makes it fast: only the layers up to the one asked for and no vocabulary head, rows without
padding (`batching/segments.py`), the solver on text alone and with the dictionary's products computed once. A part is
written when it is complete, and depends on its own documents alone; so a killed build goes on with the part it was at,
and leaves the same bytes (`tests/unit/semantics/test_target_cache.py`).
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout

from maskwright.batching.segments import Segments
from maskwright.core.batches import PackedBatch
from maskwright.core.files import explain_disk_errors, make_folder, require_free_bytes, sync
from maskwright.core.log import progress, say
from maskwright.core.randomness import numpy_generator
from maskwright.core.ranges import expand_ranges
from maskwright.corpus.corpus import Corpus
from maskwright.models.teacher import Teacher
from maskwright.semantics.dictionary import Dictionary
from maskwright.semantics.target_cache.cache import (
    ATOMS,
    DTYPES,
    MANIFEST,
    OFFSETS,
    WEIGHTS,
    CacheManifest,
    CacheStatistics,
    PartRecord,
    TargetCache,
    TargetKey,
    level_of_ratio,
    sha256_of_part,
    token_numbers,
)
from maskwright.semantics.targets import CodedStates, CodingOptions, TargetCoder

MOST_PARTS, FEWEST_PART_TOKENS, MOST_PART_TOKENS = 1024, 1 << 15, 1 << 20
"""A part holds about a thousandth of the corpus: what a killed build loses, and what it keeps in memory, up to some
200 bytes a token."""

LOOKED_AT = 256
"""States that are coded before the first part, to foresee the size."""


def target_key(
    corpus: Corpus, teacher: Teacher, dictionary: Dictionary, options: CodingOptions, sequence_length: int
) -> TargetKey:
    """Return what the targets depend on."""
    is_exact = options.solver == "exact"
    return TargetKey(
        teacher=teacher.name,
        teacher_sha256=teacher.sha256,
        layer=teacher.layer,
        dictionary_sha256=dictionary.sha256,
        penalty=options.penalty,
        solver=options.solver,
        tolerance=options.tolerance if is_exact else None,
        num_iterations=None if is_exact else options.num_iterations,
        keep_atoms=options.keep_atoms,
        corpus_sha256=corpus.manifest.content_sha256,
        sequence_length=sequence_length,
    )


def cache_folder(corpus: Corpus, key: TargetKey) -> Path:
    """Return the folder of the cache with a key, next to the corpus's shards."""
    return corpus.folder / "targets" / key.sha256[:16]


def build_target_cache(
    folder: Path,
    corpus: Corpus,
    teacher: Teacher,
    dictionary: Dictionary,
    options: CodingOptions,
    sequence_length: int,
    micro_batch_tokens: int,
    part_tokens: int | None = None,
) -> TargetCache:
    """Build a cache, go on with one that was begun, or open one that is finished.

    Args:
        folder: of the cache, see `cache_folder`; if another process is building there, it is waited for.
        corpus: its train split is coded.
        teacher: of the corpus's tokenizer.
        dictionary: learned from the teacher.
        options: how to code.
        sequence_length: tokens of a row, with specials.
        micro_batch_tokens: tokens that may pass through the teacher at once. Changes the targets within the solver's
            gap alone.
        part_tokens: tokens of a part; None: by the size of the corpus.

    Raises:
        RecipeError: tokenizers differ, or lambda is so large that all codes are zero.
        CheckpointError: the dictionary is not the teacher's, or the folder holds a damaged cache or one of another key.
        StorageError: the disk is full.
    """
    teacher.require_vocabulary(corpus.vocabulary)
    coder = TargetCoder(teacher, dictionary, options)
    key = target_key(corpus, teacher, dictionary, options, sequence_length)
    with _only_one_builds(folder):
        building = _Building(folder, corpus, coder, key, micro_batch_tokens, part_tokens)
        if not building.manifest.is_finished:
            building.run()
    return TargetCache.open(folder, key, verify=False)


@contextlib.contextmanager
def _only_one_builds(folder: Path) -> Iterator[None]:
    """Hold a folder; wait for another process that does. A killed one gives it up at once."""
    make_folder(folder)
    lock = FileLock(folder / ".lock")
    with explain_disk_errors(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"another process builds the targets in {folder}; waiting for it")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class _Entries:
    """Targets of some tokens, as they are stored.

    Attributes:
        positions: int64 [M], each token's index in its part.
        counts: int64 [M], atoms of each.
        atom_ids: uint16, the atoms of all.
        levels: uint8, their weights.
    """

    positions: np.ndarray
    counts: np.ndarray
    atom_ids: np.ndarray
    levels: np.ndarray

    @classmethod
    def of(cls, positions: np.ndarray, coded: CodedStates) -> "_Entries":
        """Take the targets of tokens at some positions of their part."""
        weights_MW = coded.targets.weights_MW.cpu().numpy()
        is_used_MW = weights_MW > 0
        ratio_MW = weights_MW / np.maximum(weights_MW[:, :1], np.finfo(np.float32).tiny)
        return cls(
            positions,
            is_used_MW.sum(1),
            coded.targets.atom_ids_MW.cpu().numpy()[is_used_MW].astype(DTYPES[ATOMS]),
            level_of_ratio(ratio_MW[is_used_MW]),
        )


class _Building:
    """One build of one cache."""

    def __init__(
        self,
        folder: Path,
        corpus: Corpus,
        coder: TargetCoder,
        key: TargetKey,
        micro_batch_tokens: int,
        part_tokens: int | None,
    ) -> None:
        """Read what is there already, and refuse it if it is damaged or of another key."""
        self.folder, self.coder, self.micro_batch_tokens = folder, coder, micro_batch_tokens
        self.vocabulary, self.split = corpus.vocabulary, corpus.split("train")
        self._special_ids = torch.tensor(corpus.vocabulary.special_ids)
        self._segments = Segments.of(self.split.document_lengths, key.sequence_length)
        num_tokens = self._segments.num_tokens
        part_tokens = part_tokens or min(max(num_tokens // MOST_PARTS, FEWEST_PART_TOKENS), MOST_PART_TOKENS)
        first_tokens = np.cumsum(self._segments.lengths) - self._segments.lengths
        _, begins = np.unique(first_tokens // part_tokens, return_index=True)
        self._borders = np.concatenate([begins, [len(self._segments)]])
        self.manifest = CacheManifest(key=key, num_tokens=num_tokens, num_atoms=coder.num_atoms)
        if (folder / MANIFEST).is_file():
            self.manifest = CacheManifest.read(folder / MANIFEST)
            self.manifest.require_key(folder, key)
            self.manifest.require_parts(folder, verify=not self.manifest.is_finished)

    def run(self) -> None:
        """Make and write the parts that are not there."""
        done = len(self.manifest.parts)
        if done:
            say(f"targets: going on with part {done + 1} of {len(self._borders) - 1}")
        else:
            self._look_ahead()
        with progress("coding tokens", self.manifest.num_tokens) as advance:
            advance(sum(part.num_tokens for part in self.manifest.parts))
            for begin, end in zip(self._borders[done:-1], self._borders[done + 1 :], strict=True):
                segments = self._segments.take(slice(begin, end))
                found, statistics = [], CacheStatistics()
                for positions, coded in self._coded(segments):
                    found.append(_Entries.of(positions, coded))
                    statistics = statistics.plus(CacheStatistics.of(coded))
                    advance(len(positions))
                self._write(_laid_out(found, segments.num_tokens), statistics)

    def _look_ahead(self) -> None:
        """Code a sample first: a lambda that is too large or a disk that is too small is said at once."""
        sample = self._segments.sample(self.micro_batch_tokens, numpy_generator(0, "target_cache"))
        states = [self.coder.teacher.states(batch, positions) for batch, positions, _ in self._batches(sample)]
        states_MD = torch.cat(states)
        self.coder.require_codes(states_MD)
        stride = -(-len(states_MD) // LOOKED_AT)
        kept = self.coder.encode(states_MD[::stride]).targets.weights_MW > 0
        entries = float(kept.sum()) / max(1, len(kept))
        num_bytes = round(self.manifest.num_tokens * (3 * entries + 4))
        require_free_bytes(self.folder, num_bytes, "targets")
        say(
            f"targets of {self.manifest.num_tokens:,} tokens: about {entries:.0f} atoms each, {num_bytes / 1e6:,.0f} MB"
        )

    def _batches(self, segments: Segments) -> Iterator[tuple[PackedBatch, torch.Tensor, np.ndarray]]:
        """Yield batches with the positions of their text, and the numbers of these tokens in the split."""
        length = self.manifest.key.sequence_length
        for batch in segments.batches(self.split, self.vocabulary, length, self.micro_batch_tokens):
            positions_M = (~torch.isin(batch.token_ids_T, self._special_ids)).nonzero().squeeze(1)
            yield batch, positions_M, token_numbers(batch, positions_M, self.split.first_tokens)

    def _coded(self, segments: Segments) -> Iterator[tuple[np.ndarray, CodedStates]]:
        """Yield the positions of tokens, counted from the first of the segments, with their codes."""
        first = int(self.split.first_tokens[segments.documents[0]] + segments.starts[0])
        for batch, positions_M, numbers_M in self._batches(segments):
            states_MD = self.coder.teacher.states(batch, positions_M)
            begin = 0
            for part_MD in states_MD.split(self.coder.states_at_once):
                end = begin + len(part_MD)
                yield numbers_M[begin:end] - first, self.coder.encode(part_MD)
                begin = end

    def _write(self, content: dict[str, np.ndarray], statistics: CacheStatistics) -> None:
        """Write the next part after the others, and then the manifest that knows of it."""
        stored = {kind: content[kind].tobytes() for kind in DTYPES}
        for kind, values in stored.items():
            path = self.folder / kind
            with explain_disk_errors(path):
                path.touch()
                with path.open("r+b") as file:
                    file.seek(self.manifest.num_bytes(kind))
                    file.truncate()
                    file.write(values)
                sync(path)
        offsets = content[OFFSETS].astype(np.int64)
        part = PartRecord(num_tokens=len(offsets) - 1, num_entries=int(offsets[-1]), sha256=sha256_of_part(stored))
        self.manifest = self.manifest.model_copy(
            update={
                "parts": [*self.manifest.parts, part],
                "width": max(self.manifest.width, int(np.diff(offsets).max())),
                "statistics": self.manifest.statistics.plus(statistics),
            }
        )
        self.manifest.write(self.folder / MANIFEST)


def _laid_out(found: list[_Entries], num_tokens: int) -> dict[str, np.ndarray]:
    """Put what was found into the order of the tokens."""
    counts = np.zeros(num_tokens, np.int64)
    for each in found:
        counts[each.positions] = each.counts
    offsets = np.concatenate([[0], np.cumsum(counts)])
    content = {kind: np.zeros(offsets[-1], DTYPES[kind]) for kind in (ATOMS, WEIGHTS)}
    for each in found:
        entries = expand_ranges(offsets[each.positions], each.counts)
        content[ATOMS][entries], content[WEIGHTS][entries] = each.atom_ids, each.levels
    return content | {OFFSETS: offsets.astype(DTYPES[OFFSETS])}
