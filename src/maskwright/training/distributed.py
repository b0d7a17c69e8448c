"""What several processes under torchrun share: ranks, sums over them, and one that writes."""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from maskwright.core.errors import RecipeError

LONGEST_WAIT = timedelta(days=2)
"""For each other. The first rank may take hours for a corpus, a dictionary or a cache of targets while the others wait;
torch would give up after 10 or 30 minutes. A rank that dies is noticed all the same: torchrun ends the others."""


@dataclass(frozen=True)
class Ranks:
    """This process's place among all of them; rank 0 of 1 outside torchrun."""

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
        if self.num_ranks == 1:
            return values
        dtype = torch.float32 if device.type == "mps" else torch.float64
        tensor = torch.tensor(values, dtype=dtype, device=device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def any(self, flag: bool, device: torch.device) -> bool:
        """Return whether the flag is set on any rank."""
        return self.sum([float(flag)], device)[0] > 0

    def wait(self) -> None:
        """Wait for all ranks."""
        if self.num_ranks > 1:
            dist.barrier()


def join_ranks(device: torch.device) -> Ranks:
    """Join the processes that torchrun started, if it did."""
    num_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if num_ranks == 1:
        return Ranks()
    if not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
    return Ranks(dist.get_rank(), num_ranks)


def leave_ranks() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()
