"""The processes of a run, as objectives and strategies are handed them; here, a run of one process.

`training/distributed.py` has the processes that torchrun starts, and is the only file that imports
`torch.distributed`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from maskwright.core.errors import RecipeError


@dataclass(frozen=True)
class Ranks:
    """One process that is all of them.

    Attributes:
        rank: of this process.
        num_ranks: of all processes.
    """

    rank: int = 0
    num_ranks: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def own_micro_batches(self, num_micro_batches: int) -> range:
        """Return the numbers of this rank's micro-batches of a step; all ranks' together are 0 ... n-1.

        Raises:
            RecipeError: the micro-batches can't be shared out evenly.
        """
        if num_micro_batches % self.num_ranks:
            raise RecipeError(
                f"{num_micro_batches} micro-batches for {self.num_ranks} processes",
                "batch.tokens / batch.micro_batch_tokens to be a multiple of the number of processes",
            )
        return range(self.rank, num_micro_batches, self.num_ranks)

    def sum(self, values: list[float], device: torch.device) -> list[float]:
        """Return the sums over all ranks (in float64, so counts are exact)."""
        return values

    def any(self, flag: bool, device: torch.device) -> bool:
        """Return whether the flag is set on any rank."""
        return self.sum([float(flag)], device)[0] > 0

    def wait(self) -> None:
        """Wait for all ranks."""

    def sum_(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all ranks."""

    def broadcast_(self, tensor: Tensor) -> None:
        """Replace a tensor by that of the first rank."""

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all ranks, one after the other along the first dimension, with their gradients.

        Args:
            tensor: of the same shape on every rank.
        """
        return tensor
