"""Masked latent semantic modelling: predict what hidden tokens meant, as a mixture of latent atoms, and the tokens too.

Source: Berend 2023, 2023.findings-acl.876 (the objective); Berend 2023, Better Together, BabyLM challenge at CoNLL
    (besides MLM on the same positions).
Departures: the token term is there by default, so that an exported model can fill masks; those of
    `objectives/terms/atoms.py`.
Cost: that of mlm and a head over atoms; targets are computed once for the whole corpus (`maskwright plan` says how
    long), or as the student trains.
Prefer: when the meaning of words in context matters more than their form; it needs a teacher, so a phase before it.
"""

from typing import Any

from pydantic import Field, model_validator

from maskwright.masking.rates import Rate
from maskwright.objectives.base import TERMS, ChosenTerms
from maskwright.objectives.masked import MaskedConfig, MaskedObjective

OF_A_TERM = frozenset({"teacher", "layer", "dictionary", "coding", "target", "targets", "mlm_weight", "refresh_steps"})
"""What recipes before version 0.2 said of the objective."""


class Mlsm(MaskedObjective):
    """Masked language modelling whose first term is a teacher's sparse codes."""

    citation = "Berend 2023, Masked Latent Semantic Modeling, Findings of ACL, 2023.findings-acl.876"

    class Config(MaskedConfig):
        """Options of `mlsm`."""

        @model_validator(mode="before")
        @classmethod
        def _say_where_options_went(cls, value: Any) -> Any:
            moved = sorted(set(value) & OF_A_TERM) if isinstance(value, dict) else []
            if moved:
                raise ValueError(
                    f"{', '.join(moved)}: options of a term since version 0.2, such as terms: [{{name: atoms, targets: "
                    "online}, token]; own_atoms has no teacher, distillation learns tokens (docs/mlsm.md)"
                )
            return value

        rate: Rate = Field(
            default=0.15,
            description="share of the text tokens that are scored, in (0, 1), or {start, end, shape} over the phase; "
            "0.15 and always [MASK] as Berend 2023",
        )
        terms: ChosenTerms = Field(
            default_factory=lambda: (TERMS.choose("atoms"), TERMS.choose("token")),
            min_length=1,
            description="what is asked of the corrupted text: atoms (a teacher's codes) and token (MLM at the same "
            "positions) by default; own_atoms needs no teacher, distillation learns the teacher's predictions",
        )
