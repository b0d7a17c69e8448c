"""From clean text to target distributions over atoms: teacher, dictionary and solver in one place.

What trains online and what fills a cache is computed here, so that the two can't drift apart.

M is the number of states, A the number of atoms, W the most atoms that a target keeps.

Source: Berend 2023, 2023.findings-acl.876 (the codes of a teacher's states, L1-normalised, as targets).
Departures: the solver is exact by default; only the strongest atoms are kept.
"""

from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from maskwright.core.batches import Movable, PackedBatch
from maskwright.core.errors import CheckpointError, RecipeError
from maskwright.objectives.parts.dictionary import Dictionary
from maskwright.objectives.parts.sparse_coding import (
    CodingReport,
    Solver,
    SparseCoder,
    largest_useful_penalty,
    target_distributions,
)
from maskwright.objectives.parts.teacher import Teacher

MOST_ATOMS = 1 << 16
"""An atom's number is kept in 16 bits."""


class CodingOptions(BaseModel):
    """How states become targets: what changes one of these changes the targets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    penalty: float = Field(
        default=0.05, gt=0, description="lambda: the larger, the fewer atoms a token has; 0.05 as in Berend 2023"
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
    """Target distributions in a fixed number of places, the strongest atom first.

    Attributes:
        atom_ids_MW: int64 [M, W]; unused places 0.
        weights_MW: float32 [M, W], falling; each row sums to 1, or to 0 for an all-zero code. Unused places 0.
    """

    atom_ids_MW: Tensor
    weights_MW: Tensor


def top_targets(codes_MA: Tensor, width: int) -> TopTargets:
    """Return the strongest atoms of codes with their weights, which are made to sum to 1.

    Args:
        codes_MA: floating [M, A], at least 0.
        width: W; where there are fewer atoms in all, that many.
    """
    weights_MW, atom_ids_MW = codes_MA.topk(min(width, codes_MA.shape[1]), dim=1)
    return TopTargets(atom_ids_MW.masked_fill(weights_MW == 0, 0), target_distributions(weights_MW.float()))


class TargetCoder:
    """Makes targets of a teacher's states over one dictionary."""

    def __init__(self, teacher: Teacher, dictionary: Dictionary, options: CodingOptions) -> None:
        """Check that the parts belong together.

        Raises:
            CheckpointError: the dictionary has another width than the teacher, or was learned from another one.
            RecipeError: there are too many atoms, or an option is out of range.
        """
        raise NotImplementedError

    def require_codes(self, states_MD: Tensor) -> None:
        """Refuse a lambda so large that every code is zero.

        Raises:
            RecipeError: it is; names the largest that is of use.
        """
        raise NotImplementedError

    def encode(self, states_MD: Tensor) -> tuple[TopTargets, CodingReport]:
        """Return the targets of states, and how good all of their codes are."""
        raise NotImplementedError

    def targets(self, batch: PackedBatch, places_M: Tensor) -> TopTargets:
        """Return the targets of some places of a clean batch: what `targets: online` trains on."""
        raise NotImplementedError
