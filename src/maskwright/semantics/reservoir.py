"""A uniform sample of fixed size from a stream of hidden states, in bounded memory.

Every state gets a random key that depends on the seed and its position in the stream alone; the sample is the states
with the smallest keys. So each subset is equally likely, and it does not matter how the stream was cut into batches.

Source: Efraimidis and Spirakis 2006, 10.1016/j.ipl.2005.11.003 (sampling by keys; all weights are equal here).
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from maskwright.core.errors import CheckpointError, CorpusError
from maskwright.core.randomness import numpy_generator

KEYS_PER_GENERATOR = 4096


class Reservoir:
    """Keeps a uniform sample without replacement of the states offered so far."""

    def __init__(self, capacity: int, width: int, seed: int) -> None:
        """Reserve capacity x width x 4 bytes, and 8 more a state.

        Args:
            capacity: states to keep.
            width: numbers in a state.
            seed: what the sample depends on, besides the stream.
        """
        self._states_ND = torch.empty(capacity, width)
        self._keys_N = torch.full((capacity,), torch.inf, dtype=torch.float64)
        self._seed, self.num_seen = seed, 0

    def __len__(self) -> int:
        """How many states are kept."""
        return min(self.num_seen, len(self._keys_N))

    @property
    def sample_ND(self) -> Tensor:
        """The sample, float32 on the CPU, a view; its order tells nothing about the stream's once it has overflowed."""
        return self._states_ND[: len(self)]

    def in_order_of_keys(self) -> Tensor:
        """Return a copy of the sample, in an order that the cuts of the stream into batches have no part in."""
        return self.sample_ND[self._keys_N[: len(self)].argsort()]

    def add(self, states_MD: Tensor) -> None:
        """Offer the next states of the stream.

        Raises:
            CorpusError: their width is another one.
        """
        capacity, width = self._states_ND.shape
        if states_MD.shape[1] != width:
            raise CorpusError(f"hidden states are {states_MD.shape[1]} wide", f"{width}, as the first ones were")
        keys_M = self._next_keys(len(states_MD))
        room = min(capacity - len(self), len(states_MD))
        begin = len(self)
        self._states_ND[begin : begin + room] = states_MD[:room].detach().to("cpu", torch.float32)
        self._keys_N[begin : begin + room] = keys_M[:room]
        self.num_seen += len(states_MD)
        if room < len(states_MD):
            self._exchange(states_MD[room:], keys_M[room:])

    def _exchange(self, states_MD: Tensor, keys_M: Tensor) -> None:
        """Let new states with small keys replace kept ones with large keys."""
        capacity = len(self._keys_N)
        is_small_M = keys_M < self._keys_N.max()
        candidates = is_small_M.nonzero().squeeze(1)
        both = torch.cat([self._keys_N, keys_M[candidates]])
        kept = both.topk(capacity, largest=False, sorted=False).indices
        is_kept = torch.zeros(len(both), dtype=torch.bool)
        is_kept[kept] = True
        positions = (~is_kept[:capacity]).nonzero().squeeze(1)
        newcomers = candidates[is_kept[capacity:]]
        self._states_ND[positions] = states_MD[newcomers.to(states_MD.device)].detach().to("cpu", torch.float32)
        self._keys_N[positions] = keys_M[newcomers]

    def _next_keys(self, count: int) -> Tensor:
        begin, end = self.num_seen, self.num_seen + count
        first, last = begin // KEYS_PER_GENERATOR, -(-end // KEYS_PER_GENERATOR)
        blocks = [
            numpy_generator(self._seed, "reservoir", block).random(KEYS_PER_GENERATOR) for block in range(first, last)
        ]
        skipped = first * KEYS_PER_GENERATOR
        keys = np.concatenate(blocks) if blocks else np.empty(0)
        return torch.from_numpy(keys[begin - skipped : end - skipped])

    def state(self) -> dict[str, Tensor]:
        """Return everything needed to go on later, as tensors for safetensors."""
        return {
            "states_ND": self.sample_ND.clone(),
            "keys_N": self._keys_N[: len(self)].clone(),
            "num_seen": torch.tensor(self.num_seen),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken; the stream must go on after `num_seen` states.

        Raises:
            CheckpointError: it is the state of a reservoir of another size.
        """
        num_seen = int(state["num_seen"])
        capacity, width = self._states_ND.shape
        kept = min(num_seen, capacity)
        if state["states_ND"].shape != (kept, width):
            raise CheckpointError(
                f"the saved sample is {list(state['states_ND'].shape)}", f"{[kept, width]}", "begin the sample again"
            )
        self._states_ND[:kept] = state["states_ND"]
        self._keys_N[:kept] = state["keys_N"]
        self.num_seen = num_seen
