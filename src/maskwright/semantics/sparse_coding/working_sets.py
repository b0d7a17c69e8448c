"""The exact solver of sparse codes: working sets, coordinate descent and Newton steps, for many states at once.

Every round takes the products of all residuals with all atoms, drops the states whose duality gap is small enough, and
gives each other state a small working set: the atoms in use and those that violate the optimality conditions most. The
small problems of a chunk of states are solved side by side on their own Gram matrices, W x W x B numbers with the
states last, so that one operation moves a coordinate of every state. Coordinate descent finds which atoms are in use;
where it is slow (atoms that are alike), a Newton step on the atoms in use jumps to their optimum.

A is the number of atoms, D the width of a state, B the states of a chunk that are not yet done, W the working set.

Source: Massias, Gramfort and Salmon 2018, arXiv 1802.07481 (working sets, gap); Lawson and Hanson 1974, chapter 23 (the
step of a non-negative least-squares solver to the boundary).
Departures: many states at once; one size of working set for a chunk; Newton steps inside.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from maskwright.semantics.sparse_coding.optimality import gap_and_objective

FIRST_SIZE = 32
"""Atoms in the first working set."""

SWEEPS = 4
"""Passes of coordinate descent between two looks at the gap; a pass is several times cheaper than a Newton step."""

POOL_STATES, POOL_NUMBERS = 1024, 1 << 22
"""States, and at most so many codes, whose chunks are put together again in every round: more of them make chunks more
alike, until they no longer fit into the caches. A pool is the work of one thread."""

MOST_INNER_ROUNDS, MOST_ROUNDS = 8, 200
RIDGE = 1e-5
"""Added to the Gram matrix of a Newton step, relative to its diagonal: atoms may be duplicates."""


def solve_by_working_sets(
    atoms_AD: Tensor,
    gram_AA: Tensor,
    states_MD: Tensor,
    penalty: float,
    tolerance: float,
    start_MA: Tensor | None = None,
) -> tuple[Tensor, int]:
    """Return codes whose relative duality gap is at most `tolerance`, and the most rounds that a state needed.

    A state that is not done after 200 rounds is returned as it is; its gap is in the coder's report.

    Args:
        atoms_AD: [A, D].
        gram_AA: their products with each other.
        states_MD: [M, D], finite.
        penalty: lambda, above 0.
        tolerance: duality gap / objective.
        start_MA: codes to start from; zero without.
    """
    codes_MA = states_MD.new_zeros(len(states_MD), len(atoms_AD))
    if start_MA is not None:
        codes_MA.copy_(start_MA)
    rows = 256 if states_MD.device.type == "cpu" else 8192
    pool = max(rows, min(POOL_STATES, POOL_NUMBERS // len(atoms_AD)) // rows * rows)
    jobs = [
        partial(_solve_pool, atoms_AD, gram_AA, x_MD, penalty, tolerance, rows, out_MA)
        for x_MD, out_MA in zip(states_MD.split(pool), codes_MA.split(pool), strict=True)
    ]
    return codes_MA, max(_side_by_side(jobs, states_MD.device), default=0)


def _side_by_side(jobs: Sequence[Callable[[], int]], device: torch.device) -> list[int]:
    """Do jobs and return what they return; on the CPU at once, each on one thread.

    Most operations are too small to be shared out: two threads with a job each did 1.5 times the work of two threads on
    one job after the other (3000 atoms, 256 wide, 2 cores of an AMD EPYC, 2026-11-21).
    """
    num_threads = torch.get_num_threads()
    if device.type != "cpu" or num_threads == 1 or len(jobs) == 1:
        return [job() for job in jobs]
    try:
        with ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(lambda job: job(), jobs))
    finally:
        torch.set_num_threads(num_threads)


def _solve_pool(
    atoms_AD: Tensor, gram_AA: Tensor, x_BD: Tensor, penalty: float, tolerance: float, rows: int, out_MA: Tensor
) -> int:
    """Solve for one pool, in chunks of about `rows`, from `out_MA` into `out_MA`; return the number of rounds."""
    undone = torch.arange(len(x_BD), device=x_BD.device)
    codes_BA = out_MA.clone()
    for num_rounds in range(1, MOST_ROUNDS + 1):
        residual_BD = torch.addmm(x_BD, codes_BA, atoms_AD, alpha=-1)
        slope_BA = residual_BD @ atoms_AD.T
        gap_B, objective_B = gap_and_objective(residual_BD, codes_BA, slope_BA, penalty)
        is_open = gap_B > tolerance * objective_B
        out_MA[undone[~is_open]] = codes_BA[~is_open]
        if not bool(is_open.any()):
            return num_rounds
        # In order of the atoms in use: states that share a chunk share the size of its working sets.
        positions = is_open.nonzero().squeeze(1)
        positions = positions[(codes_BA[positions] > 0).sum(1).argsort(stable=True)]
        undone, x_BD, codes_BA, slope_BA = undone[positions], x_BD[positions], codes_BA[positions], slope_BA[positions]
        goal_B = 0.3 * torch.maximum(0.1 * gap_B, tolerance * objective_B)[positions]
        energy_B = residual_BD[positions].square().sum(1)
        num_chunks = max(1, round(len(positions) / rows))
        parts = (each.tensor_split(num_chunks) for each in (codes_BA, slope_BA, energy_B, goal_B))
        for codes, slope, energy, goal in zip(*parts, strict=True):
            atom_ids_WB = _working_sets(codes, slope, penalty)
            small = _SmallProblems(gram_AA, atom_ids_WB, codes, slope, penalty)
            small.solve(energy, goal)
            codes.zero_().scatter_(1, atom_ids_WB.T, small.codes_WB.T)
    out_MA[undone] = codes_BA
    return MOST_ROUNDS


def _working_sets(codes_BA: Tensor, slope_BA: Tensor, penalty: float) -> Tensor:
    """Return int64 [W, B]: the atoms in use, then those that violate most, a third as many as are in use.

    As many again would take fewer rounds of nearly twice the work (1,300 states a second; 2,000 with a third).
    """
    in_use_BA = codes_BA > 0
    num_in_use = int(in_use_BA.sum(1).max())
    num_violating = int((slope_BA > penalty).sum(1).max())
    size = num_in_use + min(num_violating, max(FIRST_SIZE // 2, num_in_use // 3)) if num_in_use else FIRST_SIZE
    size = min(-(-size // 8) * 8, codes_BA.shape[1])
    return slope_BA.masked_fill(in_use_BA, torch.inf).topk(size, dim=1, sorted=False).indices.T.contiguous()


class _SmallProblems:
    """The problems of B states on their working sets: minimise over a >= 0 from the current codes.

    `excess_WB` is the slope D^T r minus the penalty: zero at the optimum for atoms in use, at most zero for others.
    """

    def __init__(
        self, gram_AA: Tensor, atom_ids_WB: Tensor, codes_BA: Tensor, slope_BA: Tensor, penalty: float
    ) -> None:
        self.penalty = penalty
        places_WWB = (atom_ids_WB * len(gram_AA))[:, None, :] + atom_ids_WB[None]
        self.gram_WWB = torch.take(gram_AA, places_WWB)
        self.codes_WB = codes_BA.T.gather(0, atom_ids_WB)
        self.excess_WB = slope_BA.T.gather(0, atom_ids_WB) - penalty
        diagonal_WB = torch.diagonal(self.gram_WWB).T
        # An atom that is zero never moves.
        self.inverse_WB = torch.where(diagonal_WB > 0, diagonal_WB.reciprocal(), 0.0).contiguous()

    def solve(self, energy_B: Tensor, goal_B: Tensor) -> None:
        """Improve `codes_WB` until nearly all gaps are under their goals.

        Args:
            energy_B: squared norms of the residuals at the start, for an estimate of the gap.
            goal_B: gaps to reach.
        """
        for inner_round in range(MOST_INNER_ROUNDS):
            for _ in range(SWEEPS):
                self._descend()
            far = (self._gaps(energy_B) > goal_B).nonzero().squeeze(1)
            if 20 * len(far) < len(goal_B) or inner_round == MOST_INNER_ROUNDS - 1:
                return
            self._newton_step(far)

    def _gaps(self, energy_B: Tensor) -> Tensor:
        scale_B = self.penalty / (self.penalty + self.excess_WB.amax(0).clamp_min(0))
        slack_WB = self.penalty * (1 - scale_B) - scale_B * self.excess_WB
        return 0.5 * (1 - scale_B).square() * energy_B + (self.codes_WB * slack_WB).sum(0)

    def _descend(self) -> None:
        """One pass of coordinate descent: each coordinate goes to its optimum, the others being as they are."""
        for gram_WB, code_B, excess_B, inverse_B in zip(
            self.gram_WWB, self.codes_WB, self.excess_WB, self.inverse_WB, strict=True
        ):
            moved_B = torch.addcmul(code_B, excess_B, inverse_B).relu_()
            self.excess_WB.addcmul_(gram_WB, code_B - moved_B)
            code_B.copy_(moved_B)

    def _newton_step(self, chosen: Tensor) -> None:
        """Move the chosen states towards the optimum of their atoms in use, if that makes the objective smaller.

        Of two steps the better one is taken: the whole one with negative codes cut to zero, and the part of it up to
        where the first code becomes zero.
        """
        codes_BW, excess_BW = self.codes_WB.T[chosen], self.excess_WB.T[chosen]
        gram_BWW = self.gram_WWB.permute(2, 0, 1)[chosen]
        in_use_BW = (codes_BW > 0).to(codes_BW)
        system_BWW = gram_BWW * in_use_BW[:, None] * in_use_BW[:, :, None]
        ridge_B = RIDGE * torch.diagonal(gram_BWW, dim1=1, dim2=2).amax(1, keepdim=True)
        system_BWW.diagonal(dim1=1, dim2=2).add_(1 - in_use_BW + ridge_B)
        factor_BWW, _ = torch.linalg.cholesky_ex(system_BWW)
        whole_BW = torch.cholesky_solve((in_use_BW * excess_BW)[:, :, None], factor_BWW).squeeze(2)
        whole_BW = whole_BW.nan_to_num(0.0, 0.0, 0.0)
        reach_B = torch.where(whole_BW < 0, -codes_BW / whole_BW, torch.inf).amin(1, keepdim=True)
        cut_BW = torch.relu(codes_BW + whole_BW) - codes_BW
        steps_BW2 = torch.stack([cut_BW, whole_BW * reach_B.clamp_max(1)], dim=2)
        gram_steps_BW2 = gram_BWW @ steps_BW2
        change_B2 = (steps_BW2 * (0.5 * gram_steps_BW2 - excess_BW[:, :, None])).sum(1)
        smallest_B, better_B = change_B2.min(1)
        column = better_B[:, None, None].expand(-1, len(self.codes_WB), 1)
        is_descent_B1 = (smallest_B < 0)[:, None]
        step_BW = torch.where(is_descent_B1, steps_BW2.gather(2, column).squeeze(2), 0.0)
        gram_step_BW = torch.where(is_descent_B1, gram_steps_BW2.gather(2, column).squeeze(2), 0.0)
        self.codes_WB[:, chosen] = torch.relu(codes_BW + step_BW).T
        self.excess_WB[:, chosen] -= gram_step_BW.T
