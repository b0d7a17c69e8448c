"""Dictionaries and states to code: unrelated atoms, atoms that are alike, few atoms, duplicates."""

import numpy as np
import pytest
import torch
from torch import Tensor


def unit_states(count: int, width: int, alike: float, generator: np.random.Generator) -> Tensor:
    """Return float32 states of norm 1; `alike` from 0 to 1 gives them a common direction and few large axes."""
    states = generator.standard_normal((count, width)) * np.arange(1, width + 1) ** -alike
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    common = np.ones(width) / np.sqrt(width)
    states = (1 - 0.8 * alike) * states + 0.8 * alike * common
    return torch.from_numpy(states / np.linalg.norm(states, axis=1, keepdims=True)).float()


def problem(kind: str) -> tuple[Tensor, Tensor]:
    """Return atoms [A, D] and states [M, D]."""
    generator = np.random.default_rng(7)
    num_atoms, width, alike = {
        "unrelated": (60, 24, 0.0),
        "alike": (60, 24, 0.5),
        "very_alike": (90, 32, 0.9),
        "few_atoms": (12, 40, 0.3),
        "duplicates": (60, 24, 0.5),
    }[kind]
    atoms_AD = unit_states(num_atoms, width, alike, generator)
    if kind == "duplicates":
        atoms_AD[20:40] = atoms_AD[:20]
        atoms_AD[-1] = 0
    return atoms_AD, unit_states(50, width, alike, generator)


@pytest.fixture(params=["unrelated", "alike", "very_alike", "few_atoms", "duplicates"])
def atoms_and_states(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    return problem(request.param)


@pytest.fixture
def alike() -> tuple[Tensor, Tensor]:
    return problem("alike")
