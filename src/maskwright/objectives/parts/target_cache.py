"""Targets of every token of a corpus, computed once and kept on the disk: how they lie there, and how they are read."""

from pathlib import Path

import numpy as np
from pydantic import Field

from maskwright.core.records import Record
from maskwright.objectives.parts.sparse_coding import Solver
from maskwright.objectives.parts.targets import TopTargets


class TargetKey(Record):
    """What targets depend on: two caches with equal keys hold the same targets (names of teachers are not compared)."""

    teacher: str = Field(description="the model, as the user named it")
    teacher_sha256: str
    layer: int
    dictionary_sha256: str
    penalty: float
    solver: Solver
    tolerance: float
    num_iterations: int
    keep_atoms: int
    corpus_sha256: str = Field(description="the manifest's `content_sha256`")
    sequence_length: int = Field(description="documents longer than that are cut; what the teacher sees depends on it")


class TargetCache:
    """Targets by number of the token in the train split, memory-mapped.

    Attributes:
        num_atoms: A.
        width: W, the most atoms that a token has.
    """

    num_atoms: int
    width: int

    @classmethod
    def open(cls, folder: Path, key: TargetKey, verify: bool) -> "TargetCache":
        """Open a finished cache.

        Raises:
            CheckpointError: it is missing, unfinished, damaged (the part is named), or of another key (what differs is
                named).
        """
        raise NotImplementedError

    def lookup(self, token_numbers_M: np.ndarray) -> TopTargets:
        """Return the targets of tokens, [M, W]; the number -1 stands for no token and gets an all-zero target."""
        raise NotImplementedError
