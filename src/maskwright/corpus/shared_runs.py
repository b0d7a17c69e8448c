"""Which held-out tokens stand in a run of tokens that the training text has too.

Exact copies of a document are always in one split; near-duplicates are not, and a figure on held-out text must not
count as understood what was only remembered.

Source: Brown et al. 2020, arXiv:2005.14165, appendix C (runs of 13).
Departures: runs are of tokens, not words, and longer where tokens are short; text that is found is not taken out but
    marked, so that figures can be given without it.
"""

import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from maskwright.core.errors import CorpusError
from maskwright.core.files import sha256_of_file, write_bytes_atomically
from maskwright.core.log import progress
from maskwright.core.ranges import expand_ranges
from maskwright.core.records.corpus import SharedRunsRecord, SplitRecord
from maskwright.corpus.decontamination import ngram_hashes
from maskwright.corpus.shards import PREPARE_AGAIN, Shard, ShardFormat

SHARED_RUNS = "shared_runs.npy"
"""One bit a held-out token, lowest bit first, in uint8: whether it stands in a run that the training text has too."""

RUN_TOKENS, RUN_BYTES = 13, 32
"""A run has so many tokens, and about so much text at least: 13 characters are in any text."""

BLOCK_TOKENS = 1 << 18
"""Tokens that are hashed together: few enough to stay in a processor's caches."""

LOOK_UP_BITS = 3
"""A table by the first bits of a hash has 2 ** 3 to 2 ** 4 entries a held-out run: few others get past it."""


def run_length(held_out: SplitRecord) -> int:
    """Return how many tokens a run has, by how much text a token of the held-out split stands for."""
    return max(RUN_TOKENS, math.ceil(RUN_BYTES * held_out.num_tokens / held_out.num_text_bytes))


def write_shared_runs(
    folder: Path, train: SplitRecord, held_out: SplitRecord, form: ShardFormat, run_tokens: int
) -> SharedRunsRecord:
    """Look for the runs of the held-out split in the training split, and write which tokens stand in one.

    Memory is proportional to the held-out split; the training split is read once, in blocks.

    Args:
        folder: holds the shards of both splits; `SHARED_RUNS` is written there.
        train: the training split.
        held_out: the held-out split.
        form: of the shards.
        run_tokens: length of a run, which lies within one document; see `run_length`.
    """
    trained_on = [Shard(folder, shard, form) for shard in train.shards]
    found = find_shared_runs(trained_on, [Shard(folder, shard, form) for shard in held_out.shards], run_tokens)
    content = io.BytesIO()
    np.save(content, np.packbits(found, bitorder="little"), allow_pickle=False)
    write_bytes_atomically(folder / SHARED_RUNS, content.getvalue())
    sha256 = sha256_of_file(folder / SHARED_RUNS)
    return SharedRunsRecord(run_tokens=run_tokens, num_tokens=int(found.sum()), sha256=sha256)


def read_shared_runs(folder: Path, record: SharedRunsRecord, num_tokens: int) -> np.ndarray:
    """Return what `write_shared_runs` wrote, bool [tokens of the held-out split].

    Raises:
        CorpusError: the file is missing or was altered.
    """
    path = folder / SHARED_RUNS
    if not path.is_file() or sha256_of_file(path) != record.sha256:
        raise CorpusError(f"{path} is missing or was altered", "the file as it was prepared", PREPARE_AGAIN)
    packed = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    return np.unpackbits(packed, count=num_tokens, bitorder="little").astype(bool)


def find_shared_runs(train: list[Shard], held_out: list[Shard], run_tokens: int) -> np.ndarray:
    """Return bool [tokens of the held-out split], true in runs of so many tokens that the training split has too.

    Runs are compared by 64-bit hashes, so a false alarm is less likely than one in a million for a trillion tokens.
    """
    firsts, hashes, num_tokens = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)], 0
    for shard in held_out:
        for first, hashes_here in runs_of(shard, run_tokens):
            firsts.append(num_tokens + first)
            hashes.append(hashes_here)
        num_tokens += len(shard.tokens)
    known, known_index = np.unique(np.concatenate(hashes), return_inverse=True)
    if not len(known):
        return np.zeros(num_tokens, bool)
    is_found = np.zeros(len(known), bool)
    num_bits = len(known).bit_length() + LOOK_UP_BITS
    shift = np.uint64(64 - num_bits)
    may_be_known = np.zeros(1 << num_bits, bool)
    may_be_known[known >> shift] = True
    num_blocks = sum(-(-len(shard.tokens) // BLOCK_TOKENS) for shard in train)
    with progress("looking for held-out runs (blocks)", num_blocks) as advance:
        for shard in train:
            for _, hashes_here in runs_of(shard, run_tokens):
                candidates = hashes_here[may_be_known[hashes_here >> shift]]
                index = np.searchsorted(known, candidates).clip(max=len(known) - 1)
                is_found[index[known[index] == candidates]] = True
                advance(1)
    shared = np.concatenate(firsts)[is_found[known_index]]
    found = np.zeros(num_tokens, bool)
    found[expand_ranges(shared, np.full(len(shared), run_tokens))] = True
    return found


def runs_of(shard: Shard, run_tokens: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield where runs within documents begin, int64, and their hashes, uint64, block by block."""
    offsets = shard.document_offsets
    for begin in range(0, len(shard.tokens), BLOCK_TOKENS):
        tokens = shard.tokens[begin : begin + BLOCK_TOKENS + run_tokens - 1]
        hashes = ngram_hashes(tokens.astype(np.uint64), run_tokens)
        # The last beginnings before a border would reach over it.
        borders = offsets[np.searchsorted(offsets, begin) : np.searchsorted(offsets, begin + len(tokens))] - begin
        reaching_over = expand_ranges(borders - run_tokens + 1, np.full(len(borders), run_tokens - 1))
        is_whole = np.ones(len(hashes), bool)
        is_whole[reaching_over[(reaching_over >= 0) & (reaching_over < len(hashes))]] = False
        yield begin + np.flatnonzero(is_whole), hashes[is_whole]
