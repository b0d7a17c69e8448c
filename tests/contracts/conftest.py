"""Every objective, in toy size and begun, so that it can corrupt and score."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from pydantic import BaseModel

from maskwright.core.batches import CorruptedBatch, PackedBatch
from maskwright.core.discovery import load_plug_in, plug_in_names
from maskwright.core.randomness import torch_generator
from maskwright.masking.masking import STRATEGIES
from maskwright.objectives.base import TERMS, Objective

Options = TypeVar("Options", bound=BaseModel)

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_objective"

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "mlm": [{"strategy": {"name": name}} for name in plug_in_names(STRATEGIES.package) if name != "token"],
    "late_mask": [
        {"insert_at": 1},
        {"decoder": "cross"},
        {"strategy": {"name": "span"}},
        {"terms": ["token", {"name": "atoms", "weight": 0.5}]},
    ],
    "mlsm": [
        {"terms": ["atoms"]},
        {"terms": [{"name": "atoms", "targets": "online"}, "token"]},
        {"terms": [{"name": "atoms", "target": "strongest_atom", "coding": {"solver": "fista", "num_iterations": 5}}]},
        {"terms": ["distillation", "token"]},
        {"terms": [{"name": "own_atoms", "refresh_steps": 500}, "token"]},
    ],
}
"""Options with which an objective does other work than with its defaults."""

REQUIRED: dict[str, dict[str, Any]] = {
    "mixture": {"parts": [{"objective": "mlm"}, {"objective": {"name": "mlm", "rate": 0.5}}]},
}
"""Options of objectives that can't do without."""

TERM_OPTIONS: dict[str, dict[str, Any]] = {"own_atoms": {"refresh_steps": 500}}

CASES = [
    (name, options)
    for name in [*plug_in_names("maskwright.objectives"), "confident_mlm:ConfidentMlm"]
    for options in [REQUIRED.get(name, {}), *VARIANTS.get(name, [])]
] + [
    ("mlm", {"terms": [{"name": term, **TERM_OPTIONS.get(term, {})}, "token"]})
    for term in plug_in_names(TERMS.package)
    if term != "token"
]

TOY_SIZES = {"num_atoms": 24, "num_states": 2000, "num_tokens": 3000, "num_updates": 5}
"""What is too much for the toy corpus by default, by name of the option, in whichever objective it stands."""


def in_toy_size(options: Options) -> Options:
    """Return the options with what costs much made small, in inner sections too."""
    smaller: dict[str, Any] = {}
    for name, value in options:
        if name in TOY_SIZES:
            smaller[name] = TOY_SIZES[name]
        elif isinstance(value, BaseModel):
            smaller[name] = in_toy_size(value)
        elif name == "terms":
            smaller[name] = tuple(replace(term, options=in_toy_size(term.options)) for term in value)
    return options.model_copy(update=smaller)


def case_name(case: tuple[str, dict[str, Any]]) -> str:
    """Return a name such as "mlsm-online" or "mlm-span"."""
    name, options = case
    return "-".join([name, *re.findall(r"[a-z_]{4,}", str([*options.values()]))])


@pytest.fixture(scope="session")
def phases(tmp_path_factory) -> Path:
    """Where objectives keep what they make: the encoder is the same for every test, so it is made once."""
    return tmp_path_factory.mktemp("phases")


@pytest.fixture(params=CASES, ids=case_name)
def objective(request, monkeypatch, encoder, vocabulary, vocabulary_head, phase_start, phases) -> Objective:
    """An objective that was begun."""
    name, options = request.param
    monkeypatch.syspath_prepend(str(EXAMPLE))
    plug_in = load_plug_in("maskwright.objectives", name, Objective)
    made = plug_in(in_toy_size(plug_in.Config(**options)), encoder, vocabulary, vocabulary_head)
    made.begin(encoder, replace(phase_start, folder=phases / case_name(request.param)))
    return made


@pytest.fixture
def completed(objective, encoder) -> Callable[..., CorruptedBatch]:
    """Return a function that corrupts a batch and completes it, as a training step does."""

    @torch.no_grad()
    def complete(batch: PackedBatch, seed: int = 0) -> CorruptedBatch:
        return objective.complete(encoder, objective.corrupt(batch, torch_generator(seed, "contract"), 0.5))

    return complete
