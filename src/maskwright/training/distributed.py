"""The processes that torchrun starts: sums over them, waiting for each other, and one that writes."""

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather

from maskwright.core.ranks import Ranks

LONGEST_WAIT = timedelta(days=2)
"""For each other. The first rank may take hours for a corpus, a dictionary or a cache of targets while the others wait;
torch would give up after 10 or 30 minutes. A rank that dies is noticed all the same: torchrun ends the others."""


class TorchrunRanks(Ranks):
    """The processes that torchrun started."""

    def sum(self, values: list[float], device: torch.device) -> list[float]:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        tensor = torch.tensor(values, dtype=dtype, device=device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def wait(self) -> None:
        dist.barrier()

    def sum_(self, tensor: Tensor) -> None:
        dist.all_reduce(tensor)

    def broadcast_(self, tensor: Tensor) -> None:
        dist.broadcast(tensor, 0)

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.cat(all_gather(tensor))


def join_ranks(device: torch.device) -> Ranks:
    """Join the processes that torchrun started, if it did."""
    num_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if num_ranks == 1:
        return Ranks()
    if not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
    return TorchrunRanks(dist.get_rank(), num_ranks)


def leave_ranks() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()
