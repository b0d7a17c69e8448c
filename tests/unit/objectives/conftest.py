"""A student with its options, in toy size."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from maskwright.masking.phase_start import PhaseStart
from maskwright.objectives.mlsm import Mlsm

TOY_DICTIONARY = {"num_atoms": 24, "num_states": 2000, "num_tokens": 3000, "num_updates": 5}


@pytest.fixture
def mlsm(encoder, vocabulary, vocabulary_head, phase_start) -> Callable[..., Mlsm]:
    """Return a function that makes the objective of some options and begins its phase."""

    def make(
        start: PhaseStart | None = None,
        student=encoder,
        is_begun: bool = True,
        term: str = "atoms",
        token: float = 1.0,
        masking: dict[str, Any] | None = None,
        **options,
    ) -> Mlsm:
        """Make it with one term and its options, and the term token where that has a weight."""
        toy = {} if term == "distillation" else {"dictionary": TOY_DICTIONARY}
        terms = [{"name": term, **toy, **options}] + ([{"name": "token", "weight": token}] if token else [])
        config = Mlsm.Config.model_validate({"terms": terms, **(masking or {})})
        objective = Mlsm(config, student, vocabulary, vocabulary_head)
        if is_begun:
            objective.begin(student, start or replace(phase_start, folder=phase_start.folder / "toy"))
        return objective

    return make
