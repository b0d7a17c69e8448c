"""Every option does something: another value changes what is asked, read, lost, learned or costed, or it is refused.

An option that is inherited and ignored is a trap for whoever sets it. So every field of every plug-in's options is
changed, alone, and the outcome compared; inner sections too.
"""

import hashlib
import typing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from pydantic import BaseModel, ValidationError

from maskwright.core.discovery import load_plug_in, plug_in_names
from maskwright.core.errors import MaskwrightError
from maskwright.core.plug_in_field import Chosen
from maskwright.core.randomness import torch_generator
from maskwright.encoders.build import build_encoder
from maskwright.heads.vocabulary import VocabularyHead
from maskwright.masking.masking import STRATEGIES
from maskwright.objectives.base import TERMS, Objective
from maskwright.objectives.masked import MaskedConfig
from maskwright.semantics import make_dictionary

OBJECTIVES = "maskwright.objectives"
TOY_DICTIONARY = {"num_atoms": 24, "num_states": 400, "num_tokens": 600, "num_updates": 3}

CONTEXTS: dict[str, list[dict[str, Any]]] = {
    "mlsm": [{"terms": [{"name": "own_atoms", "refresh_steps": 100, "dictionary": TOY_DICTIONARY}, "token"]}],
    "mixture": [
        {"parts": [{"objective": "mlm", "ratio": 0.5}, {"objective": {"name": "mlm", "rate": 0.5}, "ratio": 0.5}]}
    ],
    "late_mask": [{}, {"decoder": "cross"}],
    "atoms": [
        {"dictionary": TOY_DICTIONARY, "targets": "online", "coding": {"solver": "fista", "num_iterations": 5}},
        {"dictionary": TOY_DICTIONARY, "targets": "online"},
    ],
    "own_atoms": [
        {"dictionary": TOY_DICTIONARY, "refresh_steps": 100},
        {"dictionary": TOY_DICTIONARY, "refresh_steps": 100, "coding": {"solver": "fista", "num_iterations": 5}},
    ],
    "adaptive": [{"refresh_steps": 100}],
    "pmi": [{"least_count": 3}],
}
"""Options under which the others are changed, where the defaults are too large for a toy or leave some unused."""

TEXTS = ("/nowhere", "token", "span", "mlm", "distillation")
"""What a field of text is changed to."""


def others(value: Any, annotation: Any) -> Iterator[Any]:
    """Yield other values of a field; some may be refused."""
    choices = [
        each for part in flat(annotation) if typing.get_origin(part) is Literal for each in typing.get_args(part)
    ]
    yield from (choice for choice in choices if choice != value)
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value * 2, max(1, value // 2), value + 1, max(1, value - 1), 0)
    elif isinstance(value, float):
        yield from (value * 0.5, value * 1.5, (1 + value) / 2, 0.0)
    elif isinstance(value, Chosen | str) or value is None:
        yield from (*TEXTS, 1)
    elif isinstance(value, tuple):
        yield from (value[:1], value[::-1], ["distillation"], [])


def flat(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in typing.get_args(annotation) if typing.get_origin(annotation) is not Literal else ():
        yield from flat(part)


def leaves(options: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield path, value and annotation of every field, those of inner sections instead of the section."""
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value, field.annotation


def changed(raw: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return nested options with one value changed."""
    first, *rest = path
    inner = raw.get(first)
    inner = inner if isinstance(inner, dict) else {}
    return {**raw, first: changed(inner, tuple(rest), value) if rest else value}


class Bench:
    """Makes an objective of options and says what came of it."""

    def __init__(self, name: str, kind: str, vocabulary, batch, phase_start, folder: Path) -> None:
        self.name, self.kind, self.vocabulary, self.batch = name, kind, vocabulary, batch
        self.phase_start, self.folder = phase_start, folder
        self._count = 0

    def config_of(self, raw: dict[str, Any]) -> tuple[type[Objective], Any, BaseModel]:
        """Return the objective's class and options, and the options of the plug-in within them."""
        if self.kind == "objective":
            plug_in = load_plug_in(OBJECTIVES, self.name, Objective)
            options = plug_in.Config.model_validate(raw)
            return plug_in, options, options
        plug_in = load_plug_in(OBJECTIVES, "mlm", Objective)
        within = {"name": self.name, **raw}
        beside = [] if self.name == "token" else ["token"]
        part = {"strategy": within} if self.kind == "strategy" else {"terms": [within, *beside]}
        options = plug_in.Config.model_validate(part)
        assert isinstance(options, MaskedConfig)
        return plug_in, options, (options.strategy if self.kind == "strategy" else options.terms[0]).options

    def outcome(self, raw: dict[str, Any]) -> str:
        """Return a checksum of what is asked, read, lost, learned and costed, or what was refused."""
        torch.manual_seed(0)
        sizes = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 48}
        encoder = build_encoder("modernbert", None, sizes, self.vocabulary, 64, 5)
        content = hashlib.sha256()
        try:
            plug_in, options, _ = self.config_of(raw)
            plug_in.require_fit(options, type(encoder), encoder.config, 32)
            objective = plug_in(options, encoder, self.vocabulary, VocabularyHead(encoder.config, seed=5))
            objective.initialize(torch_generator(0, "options"))
            self._count += 1
            objective.begin(encoder, replace(self.phase_start, folder=self.folder / str(self._count)))
            for step in (0, 98, 100):
                if step:
                    objective.after_step(encoder, step)
                progress = (step + 5) / 1000
                drawn = objective.corrupt(self.batch, torch_generator(step, "options"), progress)
                with torch.no_grad():
                    batch = objective.complete(encoder, drawn)
                for term in objective.loss(encoder, batch):
                    content.update(f"{term.name} {term.total} {term.count} {term.weight} {term.metrics}".encode())
                content.update(batch.input.token_ids_T.numpy().tobytes())
            costs = objective.flops_per_token(encoder.config, 32), objective.scored_fraction()
            content.update(f"{costs} {objective.forecast(encoder.config, 32, 1e9)}".encode())
            for tensor in objective.state_dict().values():
                content.update(tensor.numpy().tobytes())
        except (ValidationError, MaskwrightError) as refusal:
            return f"refused: {refusal}"
        return content.hexdigest()


CASES = [
    *(("objective", name) for name in plug_in_names(OBJECTIVES)),
    *(("term", name) for name in plug_in_names(TERMS.package)),
    *(("strategy", name) for name in plug_in_names(STRATEGIES.package)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), CASES, ids=lambda value: str(value))
def test_every_option_does_something(kind, name, vocabulary, batch, phase_start, tmp_path, monkeypatch):
    # What describes the atoms for people takes most of the time and changes nothing that is trained.
    monkeypatch.setattr(make_dictionary, "describe_atoms", lambda *_: None)
    bench = Bench(name, kind, vocabulary, batch, phase_start, tmp_path)
    idle: set[tuple[str, ...]] = set()
    seen: set[tuple[str, ...]] = set()
    for context in CONTEXTS.get(name, [{}]):
        _, _, options = bench.config_of(context)
        before = bench.outcome(context)
        assert not before.startswith("refused"), before
        for path, value, annotation in leaves(options):
            if path in seen - idle:
                continue
            seen.add(path)
            outcomes = (bench.outcome(changed(context, path, other)) for other in others(value, annotation))
            if any(outcome != before for outcome in outcomes):
                idle.discard(path)
            else:
                idle.add(path)
    assert not idle, f"these options of {name} do nothing: {', '.join('.'.join(path) for path in sorted(idle))}"


class Deaf(load_plug_in(OBJECTIVES, "mlm", Objective)):  # pyright: ignore[reportGeneralTypeIssues]
    """Takes an option and ignores it."""

    class Config(MaskedConfig):
        """Options."""

        loudness: float = 0.5


def test_an_option_that_is_dropped_in_silence_is_found(vocabulary, batch, phase_start, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "load_plug_in", lambda *_: Deaf)
    bench = Bench("deaf", "objective", vocabulary, batch, phase_start, tmp_path)
    before = bench.outcome({})
    assert all(bench.outcome({"loudness": other}) == before for other in others(0.5, float))
    assert bench.outcome({"rate": 0.2}) != before
