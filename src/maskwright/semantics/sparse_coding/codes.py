"""Sparse codes of hidden states: non-negative lasso over a dictionary, in parity mode or to a stated accuracy.

For each state x the code is argmin over a >= 0 of 1/2 ||x - D a||^2 + penalty * sum(a), where the columns of D are the
dictionary's atoms. There is no factor 1/d: scikit-learn's `Lasso` wants alpha = penalty / d for the same problem.

A is the number of atoms, D the width of a state, M the number of states. Atoms are rows here, `atoms_AD`.

Source: Berend 2023, 2023.findings-acl.876 (the codes as targets); Beck and Teboulle 2009, 10.1137/080716542 (FISTA).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from maskwright.core.batches import Movable
from maskwright.core.errors import NonFiniteError, RecipeError
from maskwright.semantics.sparse_coding.optimality import optimality
from maskwright.semantics.sparse_coding.working_sets import solve_by_working_sets

Solver = Literal["exact", "fista"]


@dataclass(frozen=True)
class SparseCodes(Movable):
    """Codes without their zeros.

    Attributes:
        offsets: int64 [M + 1]; the entries of state m are `offsets[m]` to `offsets[m + 1]`.
        atom_ids: int32 [entries], ascending within a state.
        weights: floating [entries], above zero.
    """

    offsets: Tensor
    atom_ids: Tensor
    weights: Tensor

    @classmethod
    def from_dense(cls, codes_MA: Tensor) -> "SparseCodes":
        """Keep what is above zero."""
        states, atoms = codes_MA.nonzero(as_tuple=True)
        counts = torch.bincount(states, minlength=len(codes_MA))
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return cls(offsets, atoms.int(), codes_MA[states, atoms])

    def dense(self, num_atoms: int) -> Tensor:
        """Return the codes as [M, A]."""
        counts = self.offsets.diff()
        states = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        codes_MA = self.weights.new_zeros(len(counts), num_atoms)
        codes_MA[states, self.atom_ids.long()] = self.weights
        return codes_MA


@dataclass(frozen=True)
class CodingReport(Movable):
    """How good codes are, measured on the codes themselves and not inside the solver.

    Attributes:
        relative_gap_M: duality gap over objective: the objective is at most this share of itself above the optimum.
        kkt_violation_M: largest violation of the optimality conditions, in units of the penalty: |d_k r - penalty|
            where a code is above zero, the excess of d_k r over the penalty where it is zero.
        objective_M: 1/2 ||x - D a||^2 + penalty * sum(a).
        nonzeros_M: int64, atoms in use.
        num_iterations: FISTA steps, or the most rounds (products with all atoms) that a state needed.
        largest_eigenvalue: of D D^T; one over the step of FISTA, and large where atoms are alike.
    """

    relative_gap_M: Tensor
    kkt_violation_M: Tensor
    objective_M: Tensor
    nonzeros_M: Tensor
    num_iterations: int
    largest_eigenvalue: float

    def summary(self) -> dict[str, float]:
        """Return the figures over all states, for records; none for no states."""
        if not len(self.nonzeros_M):
            return {}
        return {
            "largest_relative_gap": float(self.relative_gap_M.max()),
            "mean_relative_gap": float(self.relative_gap_M.mean()),
            "largest_kkt_violation": float(self.kkt_violation_M.max()),
            "mean_objective": float(self.objective_M.mean()),
            "mean_nonzeros": float(self.nonzeros_M.double().mean()),
            "most_nonzeros": float(self.nonzeros_M.max()),
            "zero_codes_fraction": float((self.nonzeros_M == 0).double().mean()),
            "iterations": float(self.num_iterations),
            "largest_eigenvalue": self.largest_eigenvalue,
        }


class SparseCoder:
    """Codes states over one dictionary; what depends on the dictionary alone is computed once.

    Two solvers. `exact` stops a state when its relative duality gap is proven to be at most `tolerance`; what is
    returned may differ in the last bits with the other states of a batch, within that gap. `fista` makes a fixed number
    of steps from zero, as the reference implementation of MLSM does with 100; on atoms that are alike it is then far
    from the optimum, and the report says how far. docs/sparse_coding.md compares them.
    """

    def __init__(
        self,
        atoms_AD: Tensor,
        penalty: float,
        solver: Solver = "exact",
        tolerance: float = 1e-4,
        num_iterations: int = 100,
    ) -> None:
        """Keep the dictionary; codes are computed on its device and in its precision.

        Args:
            atoms_AD: float32 or float64 [A, D].
            penalty: weight of the L1 norm (lambda), above 0.
            solver: "exact" or "fista".
            tolerance: relative duality gap for "exact"; float32 can't prove much less than 1e-5.
            num_iterations: steps for "fista".

        Raises:
            RecipeError: penalty or tolerance can't be used.
        """
        smallest = 1e-6 if atoms_AD.dtype == torch.float32 else 1e-12
        if not (penalty > 0 and math.isfinite(penalty)):
            raise RecipeError(f"lambda is {penalty}", "a number above 0")
        if not smallest <= tolerance < 1:
            raise RecipeError(
                f"the tolerance of sparse codes is {tolerance}",
                f"a relative duality gap from {smallest:.0e} to below 1 in {atoms_AD.dtype}",
            )
        self.atoms_AD, self.penalty = atoms_AD.contiguous(), penalty
        self.solver: Solver = solver
        self.tolerance, self.num_iterations = tolerance, num_iterations

    @cached_property
    def largest_eigenvalue(self) -> float:
        """Largest eigenvalue of D D^T, computed once."""
        return largest_eigenvalue(self.atoms_AD)

    @cached_property
    def _gram_AA(self) -> Tensor:
        return self.atoms_AD @ self.atoms_AD.T

    @torch.no_grad()
    def encode(self, states_MD: Tensor, start_MA: Tensor | None = None) -> tuple[Tensor, CodingReport]:
        """Return codes and how good they are; outside autocast, in the dictionary's precision.

        Args:
            states_MD: [M, D]; for MLSM of norm 1, see `unit_rows`.
            start_MA: codes to start the exact solver from, such as those over an earlier dictionary.

        Returns:
            Codes [M, A], non-negative, and the report.

        Raises:
            RecipeError: the width of the states is not that of the atoms.
            NonFiniteError: a state is not finite.
        """
        atoms_AD = self.atoms_AD
        if states_MD.shape[1] != atoms_AD.shape[1]:
            raise RecipeError(
                f"hidden states are {states_MD.shape[1]} wide",
                f"{atoms_AD.shape[1]}, the width of the dictionary's atoms",
                "use the dictionary that was learned from this model",
            )
        with torch.autocast(atoms_AD.device.type, enabled=False):
            states_MD = states_MD.to(atoms_AD)
            if not bool(states_MD.isfinite().all()):
                raise NonFiniteError("a hidden state to be coded is not finite", "finite numbers")
            if self.solver == "fista":
                codes_MA = fista(atoms_AD, states_MD, self.penalty, self.num_iterations, self.largest_eigenvalue)
                num_iterations = self.num_iterations
            else:
                codes_MA, num_iterations = solve_by_working_sets(
                    atoms_AD, self._gram_AA, states_MD, self.penalty, self.tolerance, start_MA
                )
            return codes_MA, self._report(states_MD, codes_MA, num_iterations)

    def _report(self, states_MD: Tensor, codes_MA: Tensor, num_iterations: int) -> CodingReport:
        parts = [
            optimality(self.atoms_AD, states, codes, self.penalty)
            for states, codes in zip(states_MD.split(4096), codes_MA.split(4096), strict=True)
        ]
        gap_M, objective_M, violation_M = (torch.cat(part) for part in zip(*parts, strict=True))
        relative_gap_M = gap_M / objective_M.clamp_min(torch.finfo(gap_M.dtype).tiny)
        nonzeros_M = (codes_MA > 0).sum(1)
        return CodingReport(
            relative_gap_M, violation_M, objective_M, nonzeros_M, num_iterations, self.largest_eigenvalue
        )


def target_distributions(codes_MA: Tensor) -> Tensor:
    """Return codes that sum to 1; an all-zero code stays all-zero."""
    sums = codes_MA.sum(1, keepdim=True)
    return codes_MA / sums.masked_fill(sums == 0, 1.0)


def largest_eigenvalue(atoms_AD: Tensor) -> float:
    """Return the largest eigenvalue of D D^T, from the smaller of the two Gram matrices, in float64."""
    atoms_AD = atoms_AD.detach().cpu().double()
    small = atoms_AD.T @ atoms_AD if atoms_AD.shape[0] > atoms_AD.shape[1] else atoms_AD @ atoms_AD.T
    return float(torch.linalg.eigvalsh(small)[-1])


def largest_useful_penalty(atoms_AD: Tensor, states_MD: Tensor) -> float:
    """Return the penalty from which on every state's code is zero: the largest product of an atom and a state."""
    products = [float((part.to(atoms_AD) @ atoms_AD.T).max()) for part in states_MD.split(4096)]
    return max([0.0, *products])


def fista(
    atoms_AD: Tensor, states_MD: Tensor, penalty: float, num_iterations: int, largest_eigenvalue: float
) -> Tensor:
    """Return codes after a fixed number of FISTA steps from zero: the reference's targets with 100.

    `tests/unit/semantics/test_sparse_coding.py` compares with the recursion written down again in NumPy. The
    gradient costs 4 A D operations a step and state as two products with D, 2 A A as one with its Gram matrix; the
    cheaper form is taken.

    Args:
        atoms_AD: [A, D].
        states_MD: [M, D].
        penalty: lambda.
        num_iterations: steps.
        largest_eigenvalue: of D D^T; one over the step length.

    Returns:
        Codes [M, A].
    """
    if largest_eigenvalue <= 0:
        return states_MD.new_zeros(len(states_MD), len(atoms_AD))
    step = 1 / largest_eigenvalue
    gram_AA = atoms_AD @ atoms_AD.T if len(atoms_AD) < 2 * atoms_AD.shape[1] else None
    rows = 512 if states_MD.device.type == "cpu" else 16384
    codes = []
    for x_MD in states_MD.split(rows):
        old = ahead = x_MD.new_zeros(len(x_MD), len(atoms_AD))
        products_MA = x_MD @ atoms_AD.T
        momentum = 1.0
        for _ in range(num_iterations):
            if gram_AA is None:
                descended = torch.addmm(ahead, torch.addmm(x_MD, ahead, atoms_AD, alpha=-1), atoms_AD.T, alpha=step)
            else:
                slope = torch.addmm(products_MA, ahead, gram_AA, alpha=-1)
                descended = torch.add(ahead, slope, alpha=step)
            new = descended.sub_(step * penalty).relu_()
            next_momentum = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            ahead = torch.add(new, new - old, alpha=(momentum - 1) / next_momentum)
            old, momentum = new, next_momentum
        codes.append(old)
    return torch.cat(codes) if codes else states_MD.new_zeros(0, len(atoms_AD))
