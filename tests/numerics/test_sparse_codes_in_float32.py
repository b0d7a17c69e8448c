"""Sparse codes where float32 is tried hardest: atoms with one large common part and a falling spectrum."""

import numpy as np
import pytest
import torch

from maskwright.semantics.sparse_coding.codes import SparseCoder
from maskwright.semantics.sparse_coding.optimality import optimality

PENALTY = 0.05


@pytest.fixture(scope="module")
def hard() -> tuple[torch.Tensor, torch.Tensor]:
    """300 atoms and 200 states of width 64: half common direction, spectrum 1, 1/2, 1/3, ..."""
    generator = np.random.default_rng(11)
    common = generator.standard_normal(64)
    common /= np.linalg.norm(common)

    def states(count: int) -> torch.Tensor:
        found = generator.standard_normal((count, 64)) / np.arange(1, 65)
        found = 0.5 * found / np.linalg.norm(found, axis=1, keepdims=True) + 0.5 * common
        return torch.from_numpy(found / np.linalg.norm(found, axis=1, keepdims=True)).float()

    return states(300), states(200)


def test_the_gap_in_float32_is_that_in_float64(hard):
    atoms_AD, states_MD = hard
    for options in ({"tolerance": 1e-2}, {"tolerance": 1e-4}, {"tolerance": 1e-5}, {"solver": "fista"}):
        codes_MA, report = SparseCoder(atoms_AD, PENALTY, **options).encode(states_MD)
        gap_M, objective_M, violation_M = optimality(atoms_AD.double(), states_MD.double(), codes_MA.double(), PENALTY)
        assert (report.relative_gap_M - gap_M / objective_M).abs().max() < 2e-6
        assert (report.objective_M - objective_M).abs().max() < 1e-6
        assert (report.kkt_violation_M - violation_M).abs().max() < 1e-4


def test_the_exact_solver_is_done_where_fista_is_not(hard):
    atoms_AD, states_MD = hard
    _, exact = SparseCoder(atoms_AD, PENALTY, tolerance=1e-5).encode(states_MD)
    _, steps = SparseCoder(atoms_AD, PENALTY, "fista", num_iterations=100).encode(states_MD)
    assert steps.largest_eigenvalue > 100
    assert steps.relative_gap_M.median() > 100 * exact.relative_gap_M.max()
    assert steps.nonzeros_M.double().mean() > exact.nonzeros_M.double().mean()
    # Newton steps are what keeps the rounds few here.
    assert exact.num_iterations <= 12


def test_codes_in_float32_are_those_in_float64_within_the_gap(hard):
    atoms_AD, states_MD = hard
    narrow, _ = SparseCoder(atoms_AD, PENALTY, tolerance=1e-5).encode(states_MD)
    wide, _ = SparseCoder(atoms_AD.double(), PENALTY, tolerance=1e-10).encode(states_MD)
    # A gap g bounds the distance of reconstructions: 1/2 ||D (a - a*)||^2 <= g.
    distance_M = ((narrow.double() - wide) @ atoms_AD.double()).norm(dim=1)
    assert distance_M.max() < np.sqrt(2 * 1.1e-5 * 0.5)
