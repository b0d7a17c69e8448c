"""What hiding tokens made of a batch: what the encoder will read, and which positions were selected."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from maskwright.core.batches import UNUSED, EncoderInput, PackedBatch, Question, in_slots


@dataclass(frozen=True)
class Corruption:
    """A corrupted batch before anything is asked of it; on the host.

    Attributes:
        input: what the encoder reads.
        positions: int64, the selected positions, ascending; at most M.
        positions_M: int64 [M], the same in a fixed number of slots; terms that ask there share this tensor, so that the
            encoder answers them together. M is a function of the number of tokens, the options and the progress alone.
        unit_starts_T: bool [T], true where a unit begins that is hidden whole or not at all, such as a span.
    """

    input: EncoderInput
    positions: Tensor
    positions_M: Tensor
    unit_starts_T: Tensor

    def ask(self, targets: Tensor) -> Question:
        """Return the question for one target at each of the selected positions; terms that ask so share one reading.

        Args:
            targets: in step with `positions`: ids or labels, int64; or numbers, float.
        """
        targets_M = in_slots(targets, len(self.positions_M), UNUSED)
        return Question(self.positions_M, targets_M, torch.tensor(len(self.positions)))

    @classmethod
    def of(
        cls, packed: PackedBatch, token_ids_T: Tensor, positions: Tensor, num_slots: int, unit_starts_T: Tensor
    ) -> "Corruption":
        """Return the corruption of a batch that changes token ids alone.

        Args:
            packed: the clean batch.
            token_ids_T: int64 [T], the corrupted tokens.
            positions: int64, the selected positions, at most `num_slots`.
            num_slots: M.
            unit_starts_T: bool [T].
        """
        changed = replace(packed.input, token_ids_T=token_ids_T)
        return cls(changed, positions, in_slots(positions, num_slots, 0), unit_starts_T)
