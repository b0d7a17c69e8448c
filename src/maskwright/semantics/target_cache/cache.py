"""Targets of every token of a corpus, computed once and kept on the disk: how they lie there, and how they are read.

A cache is a folder with a manifest and three files without headers, everything little-endian:

| file | values |
|---|---|
| `targets.atoms` | atoms of all tokens, one token after the other, the strongest first: uint16 |
| `targets.weights` | their weights, as steps of a 24th of a factor of two below the token's largest: uint8 |
| `targets.offsets` | where each token's atoms begin, counted within its part, and the end of the last: uint32 |

A part is a run of tokens that was written at once; it has a checksum in the manifest. So a token takes 4 bytes, an atom
of it 3. A weight is right to 1.5 % of itself, or to 1/1500 of the largest; when read, the weights of a token are made
to sum to 1 (`tests/unit/semantics/test_target_cache.py` has the bounds).
"""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from maskwright.core.batches import PackedBatch
from maskwright.core.errors import CheckpointError
from maskwright.core.ranges import expand_ranges
from maskwright.core.records.base import Record
from maskwright.semantics.sparse_coding.codes import Solver
from maskwright.semantics.targets import CodedStates, TopTargets

MANIFEST = "manifest.json"
ATOMS, WEIGHTS, OFFSETS = "targets.atoms", "targets.weights", "targets.offsets"
DTYPES = {ATOMS: np.dtype("<u2"), WEIGHTS: np.dtype("u1"), OFFSETS: np.dtype("<u4")}

STEPS_OF_TWO = 24
"""Levels of weights to a factor of two: each level is 2.9 % below the one before."""

RATIO_OF_LEVEL = np.exp2(-np.arange(256) / STEPS_OF_TWO).astype(np.float32)
"""Weight over the token's largest, by what is stored."""

BUILD_AGAIN = "delete the folder: the next run builds the cache again"

HISTOGRAM_BINS = 257


def level_of_ratio(ratio: np.ndarray) -> np.ndarray:
    """Return the nearest level of weights in (0, 1]; what is below the last gets the last. uint8."""
    steps = np.rint(-np.log2(ratio.astype(np.float64)) * STEPS_OF_TWO)
    return np.clip(steps, 0, len(RATIO_OF_LEVEL) - 1).astype(np.uint8)


class TargetKey(Record):
    """What targets depend on: two caches with equal keys hold the same targets (names of teachers are not compared)."""

    teacher: str = Field(description="the model, as the user named it")
    teacher_sha256: str
    layer: int
    dictionary_sha256: str
    penalty: float
    solver: Solver
    tolerance: float | None = Field(description="of the solver exact")
    num_iterations: int | None = Field(description="of the solver fista")
    keep_atoms: int
    corpus_sha256: str = Field(description="the manifest's `content_sha256`")
    sequence_length: int = Field(description="longer documents are cut there, and the teacher sees a piece at a time")

    @property
    def sha256(self) -> str:
        """Checksum of everything but the teacher's name."""
        return hashlib.sha256(json.dumps(self.model_dump(exclude={"teacher"}), sort_keys=True).encode()).hexdigest()

    def differences(self, other: "TargetKey") -> list[tuple[str, str]]:
        """Return what differs, in words, of this key and of the other."""
        pairs = zip(self._in_words(), other._in_words(), strict=True)
        values = zip(self.model_dump(exclude={"teacher"}), pairs, strict=True)
        return [pair for name, pair in values if getattr(self, name) != getattr(other, name)]

    def _in_words(self) -> list[str]:
        return [
            f"the teacher {self.teacher} ({self.teacher_sha256[:12]})",
            f"layer {self.layer}",
            f"the dictionary {self.dictionary_sha256[:12]}",
            f"lambda {self.penalty:g}",
            f"the solver {self.solver}",
            f"tolerance {self.tolerance}",
            f"num_iterations {self.num_iterations}",
            f"keep_atoms {self.keep_atoms}",
            f"the corpus {self.corpus_sha256[:12]}",
            f"sequences of {self.sequence_length}",
        ]


class CacheStatistics(Record):
    """Sums over the coded tokens: how sparse the codes are, and how near to the optimum."""

    num_coded: int = Field(default=0, description="tokens; special tokens in the text are not coded")
    num_zero_codes: int = Field(default=0, description="of them, those whose code is all zero")
    num_nonzeros: int = Field(default=0, description="atoms in use, before any are cut off")
    nonzeros_histogram: list[int] = Field(
        default=[0] * HISTOGRAM_BINS, description="tokens by atoms in use; the last counts those with that many or more"
    )
    cut_off_sum: float = Field(default=0.0, description="sum of the shares that lie in atoms that were not kept")
    relative_gap_sum: float = 0.0
    largest_relative_gap: float = 0.0
    largest_kkt_violation: float = Field(default=0.0, description="in units of lambda")
    objective_sum: float = 0.0
    most_iterations: int = 0
    largest_eigenvalue: float = Field(default=0.0, description="of the dictionary: large where atoms are alike")

    @classmethod
    def of(cls, coded: CodedStates) -> "CacheStatistics":
        """Take the statistics of some states."""
        report, nonzeros_M = coded.report, coded.report.nonzeros_M.cpu()
        if not len(nonzeros_M):
            return cls()
        return cls(
            num_coded=len(nonzeros_M),
            num_zero_codes=int((nonzeros_M == 0).sum()),
            num_nonzeros=int(nonzeros_M.sum()),
            nonzeros_histogram=torch.bincount(
                nonzeros_M.clamp_max(HISTOGRAM_BINS - 1), minlength=HISTOGRAM_BINS
            ).tolist(),
            cut_off_sum=float(coded.cut_off_M.cpu().double().sum()),
            relative_gap_sum=float(report.relative_gap_M.cpu().double().sum()),
            largest_relative_gap=float(report.relative_gap_M.max()),
            largest_kkt_violation=float(report.kkt_violation_M.max()),
            objective_sum=float(report.objective_M.cpu().double().sum()),
            most_iterations=report.num_iterations,
            largest_eigenvalue=report.largest_eigenvalue,
        )

    def plus(self, other: "CacheStatistics") -> "CacheStatistics":
        """Return the statistics of both."""
        largest = {"largest_relative_gap", "largest_kkt_violation", "most_iterations", "largest_eigenvalue"}
        joined = {
            name: max(value, getattr(other, name)) if name in largest else value + getattr(other, name)
            for name, value in self
            if name != "nonzeros_histogram"
        }
        both = zip(self.nonzeros_histogram, other.nonzeros_histogram, strict=True)
        return CacheStatistics(**joined, nonzeros_histogram=[one + two for one, two in both])

    def summary(self) -> dict[str, float]:
        """Return means and shares, for records and reports; none for no tokens."""
        if not self.num_coded:
            return {}
        return {
            "mean_nonzeros": self.num_nonzeros / self.num_coded,
            "zero_codes_fraction": self.num_zero_codes / self.num_coded,
            "mean_cut_off": self.cut_off_sum / self.num_coded,
            "mean_relative_gap": self.relative_gap_sum / self.num_coded,
            "largest_relative_gap": self.largest_relative_gap,
            "largest_kkt_violation": self.largest_kkt_violation,
            "mean_objective": self.objective_sum / self.num_coded,
            "most_iterations": self.most_iterations,
            "largest_eigenvalue": self.largest_eigenvalue,
        }


class PartRecord(Record):
    """One part: a run of tokens whose targets were written at once."""

    num_tokens: int
    num_entries: int
    sha256: str = Field(description="of its atoms, weights and offsets, one after the other")

    def num_values(self, kind: str) -> int:
        """Return how many values the part has in a file."""
        return self.num_tokens + 1 if kind == OFFSETS else self.num_entries


class CacheManifest(Record):
    """`manifest.json` of a cache; while it is built, of the parts that are there."""

    format_version: Literal[1] = 1
    key: TargetKey
    num_tokens: int = Field(description="of the train split; the cache is finished when its parts have so many")
    num_atoms: int
    width: int = Field(default=0, description="the most atoms that are kept of a token")
    parts: list[PartRecord] = Field(default_factory=list)
    statistics: CacheStatistics = CacheStatistics()

    @property
    def is_finished(self) -> bool:
        """Whether every token has its target."""
        return sum(part.num_tokens for part in self.parts) == self.num_tokens

    def num_bytes(self, kind: str) -> int:
        """Return how large a file is, by what the parts have."""
        return DTYPES[kind].itemsize * sum(part.num_values(kind) for part in self.parts)

    def require_key(self, folder: Path, key: TargetKey) -> None:
        """Refuse a cache of other targets.

        Raises:
            CheckpointError: something differs; says what.
        """
        if differences := self.key.differences(key):
            has, wanted = (", ".join(words) for words in zip(*differences, strict=True))
            raise CheckpointError(f"{folder} was built for {has}", wanted, "name another folder, or " + BUILD_AGAIN)

    def require_parts(self, folder: Path, verify: bool) -> None:
        """Refuse files that are shorter than they were, or altered.

        Args:
            folder: of the cache.
            verify: also read all and compare checksums.

        Raises:
            CheckpointError: a file or part is not as it was written; it is named.
        """
        for kind in DTYPES:
            path, expected = folder / kind, self.num_bytes(kind)
            found = path.stat().st_size if path.is_file() else 0
            if found < expected or (found > expected and self.is_finished):
                raise CheckpointError(f"{path} has {found:,} bytes", f"{expected:,}", BUILD_AGAIN)
        if verify:
            self._require_checksums(folder)

    def _require_checksums(self, folder: Path) -> None:
        with contextlib.ExitStack() as stack:
            files = {kind: stack.enter_context((folder / kind).open("rb")) for kind in DTYPES}
            for number, part in enumerate(self.parts, start=1):
                sizes = {kind: DTYPES[kind].itemsize * part.num_values(kind) for kind in DTYPES}
                if sha256_of_part({kind: files[kind].read(sizes[kind]) for kind in DTYPES}) != part.sha256:
                    raise CheckpointError(
                        f"{folder}: part {number} of {len(self.parts)} was altered: its checksum differs",
                        "the targets as they were written",
                        BUILD_AGAIN,
                    )


def sha256_of_part(content: dict[str, bytes]) -> str:
    """Return the checksum of a part from its bytes in each file."""
    digest = hashlib.sha256()
    for kind in DTYPES:
        digest.update(content[kind])
    return digest.hexdigest()


class TargetCache:
    """Targets by number of the token in the train split (`TokenSplit.first_tokens`), memory-mapped.

    Attributes:
        manifest: what they are of.
        num_atoms: A.
        width: W, the most atoms that a token has; at least 1.
    """

    def __init__(self, folder: Path, manifest: CacheManifest) -> None:
        """Map the files; use `open`."""
        self.manifest, self.num_atoms, self.width = manifest, manifest.num_atoms, max(1, manifest.width)
        self._values: dict[str, np.ndarray] = {
            kind: np.memmap(folder / kind, dtype, "r") if manifest.num_bytes(kind) else np.zeros(0, dtype)
            for kind, dtype in DTYPES.items()
        }
        parts = manifest.parts
        self._first_tokens = np.cumsum([0, *(part.num_tokens for part in parts)])
        self._first_entries = np.cumsum([0, *(part.num_entries for part in parts)])

    @classmethod
    def open(cls, folder: Path, key: TargetKey, verify: bool) -> "TargetCache":
        """Open a finished cache.

        Args:
            folder: what `build_target_cache` wrote.
            key: the targets that are wanted.
            verify: also read the files whole and compare checksums.

        Raises:
            CheckpointError: it is missing, unfinished, damaged (the part is named), or of another key (what differs is
                named).
        """
        manifest = CacheManifest.read(folder / MANIFEST)
        manifest.require_key(folder, key)
        if not manifest.is_finished:
            done = sum(part.num_tokens for part in manifest.parts)
            raise CheckpointError(
                f"{folder} is not finished: {done:,} of {manifest.num_tokens:,} tokens have targets",
                "a finished cache",
                "start the run that builds it again; it goes on where it was",
            )
        manifest.require_parts(folder, verify)
        return cls(folder, manifest)

    def lookup(self, token_numbers_M: np.ndarray) -> TopTargets:
        """Return the targets of tokens; no Python runs per token or part.

        Args:
            token_numbers_M: int64 [M], numbers in the train split; -1 stands for no token, whose target is all zero.

        Returns:
            [M, W], on the CPU, the strongest atom first.
        """
        has_token_M = token_numbers_M >= 0
        numbers_M = np.where(has_token_M, token_numbers_M, 0)
        part_M = np.searchsorted(self._first_tokens, numbers_M, side="right") - 1
        index_M = numbers_M + part_M  # every part before has one offset more than tokens
        begin_M = self._values[OFFSETS][index_M].astype(np.int64)
        counts_M = np.where(has_token_M, self._values[OFFSETS][index_M + 1] - begin_M, 0)
        entries = expand_ranges(self._first_entries[part_M] + begin_M, counts_M)
        rows, columns = np.repeat(np.arange(len(counts_M)), counts_M), expand_ranges(np.zeros_like(counts_M), counts_M)
        atom_ids_MW = np.zeros((len(counts_M), self.width), np.int64)
        weights_MW = np.zeros((len(counts_M), self.width), np.float32)
        atom_ids_MW[rows, columns] = self._values[ATOMS][entries]
        weights_MW[rows, columns] = RATIO_OF_LEVEL[self._values[WEIGHTS][entries]]
        weights_MW /= np.maximum(weights_MW.sum(1, keepdims=True), 1)  # the largest has the ratio 1
        return TopTargets(torch.from_numpy(atom_ids_MW), torch.from_numpy(weights_MW))


def token_numbers(batch: PackedBatch, positions_M: torch.Tensor, first_tokens: np.ndarray) -> np.ndarray:
    """Return the numbers in the split of text tokens of a batch, int64 [M].

    Args:
        batch: clean tokens, on the CPU.
        positions_M: int64 [M], where they are in the batch.
        first_tokens: of the split, see `TokenSplit`.
    """
    sequence_M = batch.layout.sequence_index_T[positions_M].long()
    in_sequence_M = positions_M - batch.layout.sequence_starts[sequence_M] - 1  # [CLS] comes first
    before_M = first_tokens[batch.document_ids_S[sequence_M].numpy()]
    return before_M + (batch.document_starts_S[sequence_M] + in_sequence_M).numpy()
