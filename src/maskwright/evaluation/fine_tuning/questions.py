"""Token sequences with the positions that are asked about, and their packed batches.

All kinds of task look the same here: some positions of every sequence are asked about (its first token, the first
token of every word, or all tokens of a passage), and each of them has a target.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskwright.batching.pack import pack_complete
from maskwright.core.batches import Movable, PackedBatch
from maskwright.core.errors import EvaluationError
from maskwright.core.randomness import numpy_generator
from maskwright.core.ranges import expand_ranges
from maskwright.evaluation.fine_tuning.encoding import TokenSequences

ROW_MULTIPLE = 32
"""Rows are as long as the longest sequence of a batch needs, rounded up to this."""


@dataclass(frozen=True)
class AskedBatch(Movable):
    """One forward pass.

    Attributes:
        packed: the sequences.
        positions_M: int64 [M], the asked positions in the packed tokens.
        sequence_index_M: int64 [M], to which of the S sequences a position belongs, in the order they were asked for.
        targets: [M] or [M, 2], one row for each asked position.
        num_sequences: S.
    """

    packed: PackedBatch
    positions_M: Tensor
    sequence_index_M: Tensor
    targets: Tensor
    num_sequences: int


@dataclass(frozen=True)
class Questions:
    """N sequences and what is asked about them.

    Attributes:
        sequences: the encoder's input.
        asked: int64 [M], positions in their own sequences, sequence after sequence.
        num_asked: int64 [N], asked positions of each sequence.
        targets: [M] or [M, 2]: a class, a number, or whether the position is the answer's start and end.
    """

    sequences: TokenSequences
    asked: np.ndarray
    num_asked: np.ndarray
    targets: np.ndarray

    @classmethod
    def ask_first_tokens(cls, sequences: TokenSequences, targets: np.ndarray) -> "Questions":
        """Return one question per sequence, asked at its first token."""
        num_sequences = len(sequences)
        return cls(sequences, np.zeros(num_sequences, dtype=np.int64), np.ones(num_sequences, dtype=np.int64), targets)

    def __len__(self) -> int:
        """Return N."""
        return len(self.sequences)

    def asked_rows(self, chosen: np.ndarray) -> np.ndarray:
        """Return where the asked positions of some sequences are among all M, int64."""
        return expand_ranges((np.cumsum(self.num_asked) - self.num_asked)[chosen], self.num_asked[chosen])

    def batch(self, chosen: np.ndarray, pad_id: int, longest_row: int) -> AskedBatch:
        """Pack some sequences.

        Args:
            chosen: int64 [S], which sequences.
            pad_id: the tokenizer's.
            longest_row: rows are no longer than this, the model's limit.
        """
        sizes = self.sequences.sizes[chosen]
        tokens = expand_ranges(self.sequences.starts[chosen], sizes)
        row_length = min(-(-int(sizes.max()) // ROW_MULTIPLE) * ROW_MULTIPLE, longest_row)
        packed = pack_complete(
            self.sequences.token_ids[tokens], self.sequences.segment_ids[tokens], sizes, pad_id, row_length
        )
        begins = torch.empty(len(chosen), dtype=torch.int64)
        is_real = packed.document_ids_S >= 0
        begins[packed.document_ids_S[is_real]] = packed.layout.sequence_starts[:-1][is_real].long()
        rows = self.asked_rows(chosen)
        sequence_index_M = torch.from_numpy(np.repeat(np.arange(len(chosen)), self.num_asked[chosen]))
        return AskedBatch(
            packed=packed,
            positions_M=begins[sequence_index_M] + torch.from_numpy(self.asked[rows]),
            sequence_index_M=sequence_index_M,
            targets=torch.from_numpy(self.targets[rows]),
            num_sequences=len(chosen),
        )


@dataclass(frozen=True)
class SequenceOrder:
    """Which sequences a training step sees: a function of the seed and the number of the step.

    Attributes:
        num_sequences: N, all of them once an epoch.
        batch_size: sequences in a step; the last step of an epoch takes what is left.
        seed: of the order.
    """

    num_sequences: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every sequence is seen once."""
        return -(-self.num_sequences // self.batch_size)

    def step(self, number: int) -> np.ndarray:
        """Return the sequences of a step, counted from 0 over all epochs."""
        epoch, position = divmod(number, self.steps_per_epoch)
        order = numpy_generator(self.seed, "fine_tuning_order", epoch).permutation(self.num_sequences)
        return order[position * self.batch_size : (position + 1) * self.batch_size]


def cut_into_passes(sizes: np.ndarray, chosen: np.ndarray, max_tokens: int) -> Iterator[np.ndarray]:
    """Cut sequences, in their order, into runs of about `max_tokens` tokens: over it by less than one sequence.

    Args:
        sizes: int64 [N], tokens of every sequence.
        chosen: int64 [S], which sequences.
        max_tokens: what one forward and backward pass may hold.
    """
    number = (np.cumsum(sizes[chosen]) - 1) // max_tokens
    yield from np.split(chosen, np.flatnonzero(np.diff(number)) + 1)


def require_rows(questions: Questions, origin: str) -> None:
    """Refuse an empty split.

    Raises:
        EvaluationError: there is nothing in it.
    """
    if len(questions) == 0 or not questions.num_asked.any():
        raise EvaluationError(f"{origin} has no example", "at least one", "look at the file and the task's filters")
