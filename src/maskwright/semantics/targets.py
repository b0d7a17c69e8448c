"""From clean text to target distributions over atoms: teacher, dictionary and solver in one place.

What trains online and what fills a cache is computed here, so that the two can't drift apart.

M is the number of states, A the number of atoms, W the most atoms that a target keeps.

Source: Berend 2023, 2023.findings-acl.876 (the codes of a teacher's states, L1-normalised, as targets).
Departures: the solver is exact by default; only the strongest atoms are kept.
"""

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from maskwright.core.batches import Movable, PackedBatch
from maskwright.core.errors import CheckpointError, RecipeError
from maskwright.core.options import Options
from maskwright.models.teacher import Teacher
from maskwright.semantics.dictionary import Dictionary
from maskwright.semantics.sparse_coding.codes import (
    CodingReport,
    Solver,
    SparseCoder,
    largest_useful_penalty,
    target_distributions,
)

MOST_ATOMS = 1 << 16
"""An atom's number is kept in 16 bits."""

CODES_AT_ONCE = 1 << 24
"""Numbers in the dense codes that are held at once: 64 MiB in float32, and some copies."""


class CodingOptions(Options):
    """How states become targets: what changes one of these changes the targets."""

    penalty: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="lambda: the larger, the fewer atoms a token has, from 1 on none; 0.05 as in Berend 2023",
    )
    solver: Solver = Field(
        default="exact", description="exact: to `tolerance`; fista: `num_iterations` steps from zero, as published"
    )
    tolerance: float = Field(default=1e-4, gt=0, lt=1, description="relative duality gap of the solver exact")
    num_iterations: int = Field(default=100, ge=1, description="steps of the solver fista; 100 as in Berend 2023")
    keep_atoms: int = Field(
        default=64, ge=1, le=1024, description="strongest atoms of a token that are kept; the rest is cut off"
    )


@dataclass(frozen=True)
class TopTargets(Movable):
    """Target distributions in a fixed number of slots, the strongest atom first.

    Attributes:
        atom_ids_MW: int64 [M, W]; unused slots 0.
        weights_MW: float32 [M, W], falling; each row sums to 1, or to 0 for an all-zero code. Unused slots 0.
    """

    atom_ids_MW: Tensor
    weights_MW: Tensor

    @classmethod
    def none(cls, num_slots: int) -> "TopTargets":
        """Return all-zero targets in some slots, which count for nothing."""
        return cls(torch.zeros((num_slots, 1), dtype=torch.int64), torch.zeros((num_slots, 1)))

    def in_slots(self, num_slots: int) -> "TopTargets":
        """Return the targets in the first of a fixed number of slots; the others are all-zero."""
        shape = num_slots, self.weights_MW.shape[1]
        atom_ids_MW, weights_MW = self.atom_ids_MW.new_zeros(shape), self.weights_MW.new_zeros(shape)
        atom_ids_MW[: len(self.atom_ids_MW)], weights_MW[: len(self.weights_MW)] = self.atom_ids_MW, self.weights_MW
        return TopTargets(atom_ids_MW, weights_MW)

    def strongest(self) -> "TopTargets":
        """Return the strongest atom of each slot alone, with weight 1; all-zero slots stay so."""
        return TopTargets(self.atom_ids_MW[:, :1], (self.weights_MW[:, :1] > 0).float())


def entropy(targets: TopTargets) -> Tensor:
    """Return the sum of the entropies of target distributions: what makes a divergence of a cross-entropy."""
    return -torch.xlogy(targets.weights_MW, targets.weights_MW).sum()


def top_targets(codes_MA: Tensor, width: int) -> TopTargets:
    """Return the strongest atoms of codes with their weights, which are made to sum to 1.

    Args:
        codes_MA: floating [M, A], at least 0.
        width: W; where there are fewer atoms in all, that many.
    """
    weights_MW, atom_ids_MW = codes_MA.topk(min(width, codes_MA.shape[1]), dim=1)
    return TopTargets(atom_ids_MW.masked_fill(weights_MW == 0, 0), target_distributions(weights_MW.float()))


@dataclass(frozen=True)
class CodedStates:
    """Targets of states, and how good they are.

    Attributes:
        targets: the strongest atoms.
        report: of the whole codes.
        cut_off_M: float32 [M], the share of a code's sum that lies in atoms that were not kept.
    """

    targets: TopTargets
    report: CodingReport
    cut_off_M: Tensor


class TargetCoder:
    """Makes targets of a teacher's states over one dictionary.

    Attributes:
        teacher: whose states.
        num_atoms: A.
        width: W.
        states_at_once: how many states should be coded at once, so that their codes stay within `CODES_AT_ONCE`.
    """

    def __init__(self, teacher: Teacher, dictionary: Dictionary, options: CodingOptions) -> None:
        """Check that the parts belong together.

        Raises:
            CheckpointError: the dictionary has another width than the teacher, or was learned from another one.
            RecipeError: there are too few or too many atoms, or an option is out of range.
        """
        dictionary.require_width(teacher.width, teacher.name)
        _require_own_dictionary(teacher, dictionary)
        self.num_atoms = len(dictionary.atoms_AD)
        if not 2 <= self.num_atoms <= MOST_ATOMS:
            raise RecipeError(f"the dictionary has {self.num_atoms:,} atoms", f"2 to {MOST_ATOMS:,}")
        self.teacher = teacher
        self.width = min(options.keep_atoms, self.num_atoms)
        self.states_at_once = max(256, CODES_AT_ONCE // self.num_atoms)
        self._coder = SparseCoder(
            dictionary.atoms_AD.to(teacher.device),
            options.penalty,
            options.solver,
            options.tolerance,
            options.num_iterations,
        )

    def require_codes(self, states_MD: Tensor) -> None:
        """Refuse a lambda so large that the code of every one of some states is zero.

        Raises:
            RecipeError: it is; names the smallest lambda that is of no use.
        """
        limit = largest_useful_penalty(self._coder.atoms_AD, states_MD)
        if self._coder.penalty >= limit:
            raise RecipeError(
                f"lambda is {self._coder.penalty:g}: the codes of all {len(states_MD):,} states that were looked at "
                "are zero",
                f"a lambda below {limit:.4g}, the largest product of an atom and a state",
                "lower lambda; 0.05 is usual",
            )

    def encode(self, states_MD: Tensor) -> CodedStates:
        """Return the targets of states, and how good all of their codes are.

        Args:
            states_MD: float32 [M, D], of norm 1, on any device. Takes memory for M x A numbers.
        """
        codes_MA, report = self._coder.encode(states_MD.to(self._coder.atoms_AD.device))
        targets = top_targets(codes_MA, self.width)
        sums_M = codes_MA.sum(1)
        kept_M = codes_MA.gather(1, targets.atom_ids_MW).mul(targets.weights_MW > 0).sum(1)
        cut_off_M = torch.where(sums_M > 0, 1 - kept_M / sums_M, 0.0).clamp_min(0).float()
        return CodedStates(targets, report, cut_off_M)

    def targets(self, batch: PackedBatch, positions_M: Tensor) -> TopTargets:
        """Return the targets at some positions of a clean batch: what `targets: online` trains on.

        Args:
            batch: clean tokens.
            positions_M: int64 [M].
        """
        states_MD = self.teacher.states(batch, positions_M)
        parts = [self.encode(part).targets for part in states_MD.split(self.states_at_once)]
        return TopTargets(
            torch.cat([part.atom_ids_MW for part in parts]), torch.cat([part.weights_MW for part in parts])
        )


def _require_own_dictionary(teacher: Teacher, dictionary: Dictionary) -> None:
    """Refuse a dictionary of another model or layer: its atoms are not those of the teacher's states.

    Raises:
        CheckpointError: it is one.
    """
    origin = dictionary.provenance
    if (origin.teacher_sha256, origin.layer) != (teacher.sha256, teacher.layer):
        raise CheckpointError(
            f"the dictionary is of layer {origin.layer} of {origin.teacher} ({origin.teacher_sha256[:12]}), "
            f"the teacher is layer {teacher.layer} of {teacher.name} ({teacher.sha256[:12]})",
            "a dictionary that was learned from the teacher's layer",
            "learn one: maskwright dictionary MODEL --layer LAYER --data TEXT --out FOLDER",
        )
