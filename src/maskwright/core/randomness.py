"""Randomness without state: every random number is a function of the seed, its purpose and counters.

Nothing here depends on what was drawn before, on the rank or on the number of workers, so resuming needs no saved
generator (docs/determinism.md).
"""

import hashlib

import numpy as np
import torch


def derived_seed(seed: int, purpose: str, *counters: int) -> int:
    """Return a 63-bit seed for one purpose (such as "corrupt") and its counters (such as step and micro-batch)."""
    text = ":".join([str(seed), purpose, *map(str, counters)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def torch_generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """Return a CPU generator for one purpose and its counters."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose, *counters))


def numpy_generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """Return a NumPy generator (Philox) for one purpose and its counters."""
    return np.random.Generator(np.random.Philox(key=derived_seed(seed, purpose, *counters)))
