"""Runs that are stopped and resumed."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder, RunRecord
from maskwright.corpus.corpus import Corpus
from maskwright.training.loop import TrainingLoop
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.run import assemble_run

TIMING = ("seconds", "probe_seconds", "tokens_per_second", "utilisation")


@dataclass
class StoppingProbe:
    """A probe that asks the run to stop the n-th time it is called, as a user would: by a signal."""

    stop_at_call: int | None = None
    calls: list[float] = field(default_factory=list)

    def __call__(self, encoder, vocabulary_head, dtype, reader) -> dict[str, float]:
        self.calls.append(0.0)
        if len(self.calls) == self.stop_at_call:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"held_out_largest_weight": float(encoder.embedding_weight_VE.detach().abs().max())}


@dataclass
class Outcome:
    """What a finished run left behind."""

    weights: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    metrics: list[dict[str, Any]]

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Outcome)
        for mine, theirs in ((self.weights, other.weights), (self.optimizer, other.optimizer)):
            assert set(mine) == set(theirs)
            for name, tensor in mine.items():
                assert torch.equal(tensor, theirs[name]), f"{name} differs"
        assert self.metrics == other.metrics
        return True


def outcome(folder: Path) -> Outcome:
    run = RunFolder(folder)
    last = sorted(run.checkpoints.iterdir())[-1]
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    metrics = [{name: value for name, value in line.items() if name not in TIMING} for line in lines]
    return Outcome(load_file(last / "model.safetensors"), load_file(last / "optimizer.safetensors"), metrics)


@pytest.fixture
def train(corpus: Corpus, raw_recipe: dict[str, Any]) -> Callable[..., TrainingLoop]:
    """Return a function that begins or goes on with a run in a folder and returns the loop after it ended."""

    def run_it(folder: Path, stop_at_call: int | None = None, **changes: Any) -> TrainingLoop:
        raw = {**raw_recipe, "probes": {"every_steps": 1, "max_share": None}, **changes}
        recipe = parse_recipe(raw, "test")
        run_folder = RunFolder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        before = RunRecord.read(run_folder.run_record) if run_folder.run_record.exists() else None
        probe = StoppingProbe(stop_at_call)
        loop = TrainingLoop(assemble_run(recipe, corpus, run_folder, Ranks(), {"held_out": probe}, before=before))
        loop.resume()
        loop.train()
        return loop

    return run_it
