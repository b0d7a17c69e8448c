"""Online dictionary learning: atoms for which a sample of hidden states has the best sparse codes.

For each minibatch of states: code it, add the codes' moments to the statistics, then improve every atom in turn by
block coordinate descent on those statistics. The objective is the mean of 1/2 ||x - D a||^2 + penalty * sum(a), codes
non-negative, atoms of norm at most 1.

A is the number of atoms, D the width of a state, M the states of a minibatch, N those of the sample.

Source: Mairal, Bach, Ponce and Sapiro 2009, 10.1145/1553374.1553463.
Departures: atoms that nobody used for long are drawn again from the states that are coded worst.
"""

from collections.abc import Callable, Mapping

import torch
from pydantic import Field
from torch import Tensor

from maskwright.core.errors import CheckpointError, CorpusError, RecipeError
from maskwright.core.options import Options
from maskwright.core.randomness import torch_generator
from maskwright.models.teacher import unit_rows
from maskwright.semantics.sparse_coding.codes import SparseCoder, largest_useful_penalty
from maskwright.semantics.sparse_coding.working_sets import solve_by_working_sets

BLOCK = 32
"""Atoms whose products with all others are taken at once."""


class DictionaryConfig(Options):
    """How a dictionary is learned."""

    num_atoms: int = Field(default=3000, description="atoms of the dictionary (K), 2 or more; 3000 in the reference")
    penalty: float = Field(default=0.05, gt=0, description="lambda: weight of the L1 norm; 0.05 in the reference")
    batch_states: int = Field(default=512, gt=0, description="states of a minibatch")
    num_updates: int = Field(
        default=800, gt=0, description="minibatches; 800 x 512 states, near the reference's 400,000"
    )
    forgetting: float = Field(
        default=2.0, ge=0, description="rho: update t keeps (1 - 1/t)^rho of the earlier statistics; 0 forgets nothing"
    )
    tolerance: float = Field(default=0.1, ge=1e-5, lt=1, description="relative duality gap of the codes while learning")
    patience_states: int | None = Field(
        default=None, gt=0, description="an unused atom is redrawn after so many states; 10 times the atoms if not set"
    )


class DictionaryLearner:
    """The state of learning: the atoms and the moments of all codes so far."""

    def __init__(self, config: DictionaryConfig, sample_ND: Tensor, seed: int, device: str = "cpu") -> None:
        """Begin with atoms that are states of the sample, drawn at random.

        Args:
            config: how to learn.
            sample_ND: [N, D], at least as many as atoms.
            seed: of the first atoms, the minibatches and the atoms drawn again.
            device: where to compute; the sample may stay on the CPU.

        Raises:
            RecipeError: fewer than two atoms.
            CorpusError: fewer states than atoms.
        """
        num_atoms = config.num_atoms
        if num_atoms < 2:
            raise RecipeError(f"a dictionary of {num_atoms} atoms", "2 atoms or more", "set atoms to 1000, for example")
        if len(sample_ND) < num_atoms:
            raise CorpusError(
                f"the sample has {len(sample_ND):,} hidden states",
                f"{num_atoms:,} or more, as many as atoms; 20 times as many are better",
                "give more text, or ask for fewer atoms",
            )
        self.config, self._seed = config, seed
        first = torch.randperm(len(sample_ND), generator=torch_generator(seed, "dictionary_start"))[:num_atoms]
        self.atoms_AD = unit_rows(sample_ND[first.to(sample_ND.device)]).float().to(device)
        self.code_moments_AA = self.atoms_AD.new_zeros(num_atoms, num_atoms)
        self.cross_moments_AD = torch.zeros_like(self.atoms_AD)
        self.idle_states_A = torch.zeros(num_atoms, dtype=torch.int64, device=device)
        self.num_updates = 0

    def batch_of(self, sample_ND: Tensor) -> Tensor:
        """Return the states of the next update: the sample in random order, again and again in new orders."""
        begin = self.num_updates * self.config.batch_states
        positions = torch.arange(begin, begin + self.config.batch_states)
        rounds = positions // len(sample_ND)
        pieces = [
            self._order(int(number), len(sample_ND))[positions[rounds == number] % len(sample_ND)]
            for number in rounds.unique()
        ]
        return sample_ND[torch.cat(pieces).to(sample_ND.device)]

    def _order(self, number: int, size: int) -> Tensor:
        return torch.randperm(size, generator=torch_generator(self._seed, "dictionary_order", number))

    @torch.no_grad()
    def update(self, states_MD: Tensor) -> float:
        """Learn from one minibatch; return its mean objective before the atoms were improved.

        Args:
            states_MD: [M, D], any norm; they are scaled to norm 1.

        Raises:
            CheckpointError: the width is not the atoms'.
            RecipeError: the penalty is so large that every code is zero.
        """
        if states_MD.shape[1] != self.atoms_AD.shape[1]:
            raise CheckpointError(f"hidden states are {states_MD.shape[1]} wide", f"{self.atoms_AD.shape[1]}")
        penalty = self.config.penalty
        states_MD = unit_rows(states_MD.to(self.atoms_AD.device)).float()
        gram_AA = self.atoms_AD @ self.atoms_AD.T
        codes_MA, _ = solve_by_working_sets(self.atoms_AD, gram_AA, states_MD, penalty, self.config.tolerance)
        if not bool(codes_MA.any()):
            largest = largest_useful_penalty(self.atoms_AD, states_MD)
            raise RecipeError(
                f"lambda is {penalty:g}: every code is zero",
                f"less than {largest:.3g}, the largest product of an atom and a hidden state",
                "the reference uses 0.05",
            )
        residual_MD = torch.addmm(states_MD, codes_MA, self.atoms_AD, alpha=-1)
        energy_M = residual_MD.square().sum(1)
        self.num_updates += 1
        kept = (1 - 1 / self.num_updates) ** self.config.forgetting
        self.code_moments_AA.mul_(kept).addmm_(codes_MA.T, codes_MA)
        self.cross_moments_AD.mul_(kept).addmm_(codes_MA.T, states_MD)
        self.idle_states_A += len(states_MD)
        self.idle_states_A[(codes_MA > 0).any(0)] = 0
        improve_atoms(self.atoms_AD, self.code_moments_AA, self.cross_moments_AD)
        self._replace_idle_atoms(states_MD, energy_M)
        return float((0.5 * energy_M + penalty * codes_MA.sum(1)).double().mean())

    def _replace_idle_atoms(self, states_MD: Tensor, energy_M: Tensor) -> None:
        """Draw atoms that were idle for too long again, from states in proportion to what their codes leave over."""
        patience = self.config.patience_states or 10 * self.config.num_atoms
        idle = (self.idle_states_A >= patience).nonzero().squeeze(1)
        weights_M = energy_M.cpu().double()
        num_new = min(len(idle), int((weights_M > 0).sum()))
        if not num_new:
            return
        generator = torch_generator(self._seed, "dictionary_idle", self.num_updates)
        chosen = torch.multinomial(weights_M, num_new, generator=generator).to(states_MD.device)
        idle = idle[:num_new]
        self.atoms_AD[idle] = states_MD[chosen]
        self.code_moments_AA[idle] = 0
        self.code_moments_AA[:, idle] = 0
        self.cross_moments_AD[idle] = 0
        self.idle_states_A[idle] = 0

    def state(self) -> dict[str, Tensor]:
        """Return everything needed to go on later, bit for bit, as tensors for safetensors."""
        return {name: getattr(self, name).detach().cpu().clone() for name in self._names} | {
            "num_updates": torch.tensor(self.num_updates)
        }

    _names = ("atoms_AD", "code_moments_AA", "cross_moments_AD", "idle_states_A")

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken.

        Raises:
            CheckpointError: it is the state of another dictionary.
        """
        for name in self._names:
            mine = getattr(self, name)
            if name not in state or state[name].shape != mine.shape:
                found = list(state[name].shape) if name in state else "missing"
                raise CheckpointError(f"saved dictionary: {name} is {found}", f"{list(mine.shape)}", "begin again")
            mine.copy_(state[name])
        self.num_updates = int(state["num_updates"])


def learn_dictionary(
    learner: DictionaryLearner, sample_ND: Tensor, on_update: Callable[[float], None] = lambda objective: None
) -> Tensor:
    """Do what is left of the updates; return the atoms, float32 [A, D].

    Args:
        learner: fresh, or one whose state was loaded; it goes on where that was taken.
        sample_ND: [N, D], the same as at its beginning.
        on_update: called after each update with the objective of its minibatch; may save `learner.state()`.
    """
    while learner.num_updates < learner.config.num_updates:
        on_update(learner.update(learner.batch_of(sample_ND)))
    return learner.atoms_AD


def improve_atoms(atoms_AD: Tensor, code_moments_AA: Tensor, cross_moments_AD: Tensor) -> None:
    """Move every atom in turn, in index, to its optimum given the moments and the other atoms, norms at most 1.

    Algorithm 2 of the source, one pass. The products of a block of atoms with all others are one matrix product; inside
    the block each move corrects those of the rest, so the result is that of one atom after the other.

    Args:
        atoms_AD: changed.
        code_moments_AA: sum of a a^T over states.
        cross_moments_AD: sum of a x^T.
    """
    weights_A = code_moments_AA.diagonal()
    # Atoms without codes stay as they are.
    inverse_A = torch.where(weights_A > 1e-8 * weights_A.max(), weights_A.reciprocal(), 0.0)
    for begin in range(0, len(atoms_AD), BLOCK):
        block = slice(begin, begin + BLOCK)
        inverse_B1 = inverse_A[block, None]
        moves_BD = inverse_B1 * torch.addmm(cross_moments_AD[block], code_moments_AA[block], atoms_AD, alpha=-1)
        couplings_BB = inverse_B1 * code_moments_AA[block, block]
        for index, (atom_D, move_D) in enumerate(zip(atoms_AD[block], moves_BD, strict=True)):
            moved_D = atom_D + move_D
            moved_D /= torch.linalg.vector_norm(moved_D).clamp_min(1)
            moves_BD.addr_(couplings_BB[:, index], moved_D - atom_D, alpha=-1)
            atom_D.copy_(moved_D)


def mean_objective(atoms_AD: Tensor, penalty: float, states_ND: Tensor, tolerance: float = 1e-4) -> float:
    """Return the mean objective of states over a dictionary, by exact codes; its relative error is the tolerance."""
    coder = SparseCoder(atoms_AD, penalty, tolerance=tolerance)
    total = sum(float(coder.encode(unit_rows(part))[1].objective_M.double().sum()) for part in states_ND.split(4096))
    return total / len(states_ND)
