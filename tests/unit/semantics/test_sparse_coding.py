"""Sparse codes against NumPy's FISTA, scikit-learn's solvers and the conditions of the optimum."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import sparse_encode
from sklearn.linear_model import Lasso

from maskwright.core.errors import NonFiniteError, RecipeError
from maskwright.models.teacher import unit_rows
from maskwright.semantics.sparse_coding import working_sets
from maskwright.semantics.sparse_coding.codes import (
    SparseCoder,
    SparseCodes,
    fista,
    largest_eigenvalue,
    largest_useful_penalty,
    target_distributions,
)

PENALTY = 0.05


def fista_by_hand(dictionary_DA: np.ndarray, x_D: np.ndarray, penalty: float, num_iterations: int) -> np.ndarray:
    """The reference's recursion for one state, in float64, with the dictionary's atoms in columns."""
    step = 1 / np.linalg.eigh(dictionary_DA @ dictionary_DA.T)[0].max()
    a = y = np.zeros(dictionary_DA.shape[1])
    t = 1.0
    for _ in range(num_iterations):
        a_next = np.maximum(y - step * (dictionary_DA.T @ (dictionary_DA @ y - x_D)) - step * penalty, 0)
        t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
        y = a_next + (t - 1) / t_next * (a_next - a)
        a, t = a_next, t_next
    return a


def objective(atoms_AD, states_MD, codes_MA, penalty=PENALTY) -> np.ndarray:
    """1/2 ||x - D a||^2 + penalty * sum(a), in float64."""
    atoms, states, codes = (np.asarray(value, np.float64) for value in (atoms_AD, states_MD, codes_MA))
    return 0.5 * ((states - codes @ atoms) ** 2).sum(1) + penalty * np.abs(codes).sum(1)


def optimum(atoms_AD, states_MD, penalty=PENALTY) -> np.ndarray:
    """scikit-learn's codes, nearly to machine precision."""
    atoms, states = np.asarray(atoms_AD, np.float64), np.asarray(states_MD, np.float64)
    lasso = Lasso(alpha=penalty / atoms.shape[1], fit_intercept=False, positive=True, tol=1e-12, max_iter=200_000)
    return np.stack([lasso.fit(atoms.T, state).coef_ for state in states])


def test_100_steps_of_fista_are_the_reference(atoms_and_states):
    atoms_AD, states_MD = atoms_and_states
    ours, _ = SparseCoder(atoms_AD, PENALTY, "fista", num_iterations=100).encode(states_MD)
    dictionary_DA = atoms_AD.double().numpy().T
    theirs = np.stack([fista_by_hand(dictionary_DA, x.double().numpy(), PENALTY, 100) for x in states_MD])
    assert np.abs(ours.numpy() - theirs).max() < 1e-5
    theirs /= theirs.sum(1, keepdims=True)
    assert np.abs(target_distributions(ours).numpy() - theirs).max() < 1e-5


def test_both_forms_of_the_gradient_are_the_same(alike):
    atoms_AD, states_MD = alike
    few = atoms_AD[:40]
    # Atoms of zero change nothing but the choice of the form.
    many = torch.cat([few, torch.zeros(20, few.shape[1])])
    eigenvalue = largest_eigenvalue(few)
    by_gram, by_dictionary = (fista(atoms, states_MD, PENALTY, 50, eigenvalue) for atoms in (few, many))
    assert (by_gram - by_dictionary[:, :40]).abs().max() < 1e-5
    assert not by_dictionary[:, 40:].any()


def test_the_exact_solver_reaches_the_optimum_of_scikit_learn(atoms_and_states):
    atoms_AD, states_MD = atoms_and_states
    best = objective(atoms_AD, states_MD, optimum(atoms_AD, states_MD))
    for tolerance in (1e-2, 1e-4, 1e-5):
        codes_MA, report = SparseCoder(atoms_AD, PENALTY, tolerance=tolerance).encode(states_MD)
        ours = objective(atoms_AD, states_MD, codes_MA)
        assert (codes_MA >= 0).all()
        assert report.relative_gap_M.max() <= tolerance * 1.01
        assert (ours <= best / (1 - tolerance) + 1e-7).all()


def test_the_codes_themselves_are_those_of_scikit_learn(alike):
    atoms_AD, states_MD = (value.double() for value in alike)
    ours, _ = SparseCoder(atoms_AD, PENALTY, tolerance=1e-11).encode(states_MD)
    assert np.abs(ours.numpy() - optimum(atoms_AD, states_MD)).max() < 1e-5
    options = {"algorithm": "lasso_cd", "alpha": PENALTY, "positive": True, "max_iter": 100_000}
    by_encode = sparse_encode(states_MD.numpy(), atoms_AD.numpy(), **options)
    assert np.abs(objective(atoms_AD, states_MD, by_encode) - objective(atoms_AD, states_MD, ours)).max() < 1e-4


@pytest.mark.parametrize("solver", ["exact", "fista"])
def test_the_gap_is_a_true_bound(atoms_and_states, solver):
    atoms_AD, states_MD = atoms_and_states
    best = objective(atoms_AD, states_MD, optimum(atoms_AD, states_MD))
    for num_iterations in (1, 10, 100):
        coder = SparseCoder(atoms_AD, PENALTY, solver, tolerance=0.3, num_iterations=num_iterations)
        codes_MA, report = coder.encode(states_MD)
        excess = objective(atoms_AD, states_MD, codes_MA) - best
        assert (excess <= (report.relative_gap_M * report.objective_M).numpy() + 1e-6).all()
        assert np.allclose(report.objective_M, objective(atoms_AD, states_MD, codes_MA), rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    num_atoms=st.integers(1, 50),
    width=st.integers(1, 30),
    penalty=st.floats(0.001, 0.5),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
    seed=st.integers(0, 10_000),
)
def test_conditions_of_the_optimum_hold(num_atoms, width, penalty, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    atoms_AD = torch.randn(num_atoms, width, generator=generator) / math.sqrt(width)
    states_MD = torch.randn(9, width, generator=generator) * scale
    codes_MA, report = SparseCoder(atoms_AD.double(), penalty, tolerance=1e-9).encode(states_MD)
    assert report.relative_gap_M.max() <= 1e-9
    slope_MA = (states_MD.double() - codes_MA @ atoms_AD.double()) @ atoms_AD.double().T
    room = 1e-3 * max(scale, penalty)
    assert (slope_MA <= penalty + room).all()
    assert (((slope_MA - penalty).abs() < room) | (codes_MA < 1e-3 * scale)).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_permuted_atoms_and_states_permute_the_codes(seed):
    generator = torch.Generator().manual_seed(seed)
    atoms_AD, states_MD = (torch.randn(n, 16, generator=generator).double() / 4 for n in (30, 11))
    atom_order, state_order = (torch.randperm(n, generator=generator) for n in (30, 11))
    for solver in ("exact", "fista"):
        codes, _ = SparseCoder(atoms_AD, PENALTY, solver, tolerance=1e-11).encode(states_MD)
        permuted, _ = SparseCoder(atoms_AD[atom_order], PENALTY, solver, tolerance=1e-11).encode(states_MD[state_order])
        assert (codes[state_order][:, atom_order] - permuted).abs().max() < 1e-4


def test_the_largest_useful_penalty_is_where_codes_vanish(alike):
    atoms_AD, states_MD = alike
    largest = largest_useful_penalty(atoms_AD, states_MD)
    for solver in ("exact", "fista"):
        codes, report = SparseCoder(atoms_AD, largest * 1.0001, solver).encode(states_MD)
        assert not codes.any()
        assert report.relative_gap_M.max() == 0
        assert report.summary()["zero_codes_fraction"] == 1
        assert SparseCoder(atoms_AD, largest * 0.9, solver).encode(states_MD)[0].any()


def test_a_state_of_zero_has_no_code(alike):
    atoms_AD, states_MD = alike
    states_MD = unit_rows(torch.cat([torch.zeros(1, states_MD.shape[1]), 5 * states_MD]))
    assert torch.allclose(states_MD.norm(dim=1), torch.tensor([0.0] + [1.0] * 50))
    codes_MA, report = SparseCoder(atoms_AD, PENALTY).encode(states_MD)
    assert not codes_MA[0].any() and codes_MA[1:].any(1).all()
    assert report.relative_gap_M[0] == 0
    targets = target_distributions(codes_MA)
    assert targets[0].sum() == 0
    assert torch.allclose(targets[1:].sum(1), torch.ones(50))


def test_nothing_to_code(alike):
    atoms_AD, states_MD = alike
    for solver in ("exact", "fista"):
        codes_MA, report = SparseCoder(atoms_AD, PENALTY, solver).encode(states_MD[:0])
        assert codes_MA.shape == (0, len(atoms_AD))
        assert report.summary() == {}
        assert len(SparseCodes.from_dense(codes_MA).offsets) == 1


def test_a_warm_start_leads_to_the_same_optimum_in_fewer_rounds(alike):
    atoms_AD, states_MD = alike
    coder = SparseCoder(atoms_AD, PENALTY)
    codes_MA, cold = coder.encode(states_MD)
    again, warm = coder.encode(states_MD, start_MA=codes_MA)
    assert torch.equal(again, codes_MA)
    assert warm.num_iterations == 1 < cold.num_iterations
    elsewhere, _ = coder.encode(states_MD, start_MA=codes_MA.flip(0))
    assert np.allclose(objective(*alike, elsewhere), objective(*alike, codes_MA), rtol=2e-4)


def test_pools_side_by_side_give_the_codes_of_one_after_the_other(alike, monkeypatch):
    atoms_AD, states_MD = alike
    states_MD = states_MD.repeat(1 + 1000 // len(states_MD), 1)
    monkeypatch.setattr(working_sets, "POOL_STATES", 256)
    codes = []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        codes.append(SparseCoder(atoms_AD, PENALTY).encode(states_MD)[0])
        assert torch.get_num_threads() == num_threads
    assert torch.equal(*codes)


def test_codes_survive_the_sparse_form(atoms_and_states):
    atoms_AD, states_MD = atoms_and_states
    codes_MA, report = SparseCoder(atoms_AD, 0.3).encode(states_MD)
    sparse = SparseCodes.from_dense(codes_MA)
    assert torch.equal(sparse.dense(len(atoms_AD)), codes_MA)
    assert torch.equal(sparse.offsets.diff(), report.nonzeros_M)
    assert (sparse.atom_ids.dtype, sparse.offsets.dtype) == (torch.int32, torch.int64)
    assert (sparse.weights > 0).all()


def test_autocast_and_gradients_stay_outside(alike):
    atoms_AD, states_MD = alike
    coder = SparseCoder(atoms_AD, PENALTY)
    states_MD = states_MD.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        codes_MA, report = coder.encode(states_MD)
    assert codes_MA.dtype == torch.float32 and not codes_MA.requires_grad
    assert torch.equal(codes_MA, coder.encode(states_MD)[0])
    assert report.relative_gap_M.max() <= 1.01e-4


def test_the_largest_eigenvalue_is_that_of_either_product(atoms_and_states):
    atoms_AD, _ = atoms_and_states
    expected = np.linalg.norm(atoms_AD.double().numpy(), 2) ** 2
    assert math.isclose(largest_eigenvalue(atoms_AD), expected, rel_tol=1e-9)


def test_what_can_not_be_coded_is_refused(alike):
    atoms_AD, states_MD = alike
    with pytest.raises(RecipeError, match=r"23 wide\nexpected: 24"):
        SparseCoder(atoms_AD, PENALTY).encode(states_MD[:, :23])
    states_MD[3, 3] = torch.nan
    with pytest.raises(NonFiniteError, match="not finite"):
        SparseCoder(atoms_AD, PENALTY).encode(states_MD)
    for penalty in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(RecipeError, match="lambda"):
            SparseCoder(atoms_AD, penalty)
    for tolerance in (0.0, 1e-8, 1.0):
        with pytest.raises(RecipeError, match="tolerance"):
            SparseCoder(atoms_AD, PENALTY, tolerance=tolerance)
