"""Measure two checkouts of this project side by side: the training step, prepare, scoring and fine-tuning.

    python benchmarks/two_checkouts.py BEFORE AFTER TEXT DATA --record benchmarks/records/<date>_two_checkouts.json

BEFORE and AFTER are checkouts, TEXT is a JSONL file (6 MB take about a second to prepare), DATA is a folder with BLiMP
and CoLA. Every command is a process of its own on one core, with one interpreter for both checkouts, in alternating
order. Training is the median of the tokens/s that a run wrote, its first steps left out; the rest is the wall time of
the whole process. Ratios are taken round by round, above 1 where AFTER is faster.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from maskwright.core.hardware import environment

WARM_UP_STEPS = 10

BASE: dict[str, Any] = {
    "name": "two_checkouts",
    "tokenizer": {"vocabulary_size": 8192},
    "encoder": {"size": "tiny"},
    "budget": {"steps": 40},
    "batch": {"tokens": 2048, "micro_batch_tokens": 2048},
    "engine": {"device": "cpu", "dtype": "float32", "compile": "off"},
    "checkpoints": {"every_minutes": None},
}
OBJECTIVES = {
    "train_mlm": {"name": "mlm", "rate": 0.3},
    "train_mlm_whole_word": {"name": "mlm", "rate": 0.3, "strategy": "whole_word"},
    "train_late_mask": {"name": "late_mask"},
    "train_self_evolution": {"name": "self_evolution"},
}


class Checkout:
    """One of the two, with a folder for what it makes."""

    def __init__(self, source: Path, folder: Path, text: Path, data: Path) -> None:
        """Write the recipes."""
        self.source, self.folder, self.text, self.data = source.resolve(), folder, text.resolve(), data.resolve()
        folder.mkdir(parents=True)
        for name, objective in OBJECTIVES.items():
            phases = [{"objective": objective, "sequence_length": 128}]
            recipe = BASE | {"data": {"data": str(self.text)}, "phases": phases}
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")

    def maskwright(self, *arguments: object) -> float:
        """Run the command line and return its seconds."""
        variables = {"PYTHONPATH": str(self.source / "src"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "maskwright", *map(str, arguments)]
        begin = time.perf_counter()
        done = subprocess.run(command, cwd=self.folder, env=os.environ | variables, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{self.source}: {' '.join(command)}\n{done.stderr[-2000:]}")
        return time.perf_counter() - begin

    def prepare(self) -> float:
        """Prepare the text anew."""
        shutil.rmtree(self.folder / "corpora", ignore_errors=True)
        return self.maskwright("prepare", "train_mlm.yaml", "--out", "corpora")

    @property
    def corpus(self) -> Path:
        """The prepared text."""
        return next(path.parent for path in (self.folder / "corpora").glob("*/manifest.json"))

    def train(self, name: str) -> float:
        """Train one of the recipes and return its tokens/s."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        self.maskwright("train", f"{name}.yaml", "--corpus", self.corpus, "--run", name)
        lines = (self.folder / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return statistics.median(json.loads(line)["tokens_per_second"] for line in lines[WARM_UP_STEPS:])

    def evaluate(self, task: str, *options: object) -> float:
        """Score the model of `train_mlm` by one task."""
        out = self.folder / "evaluation"
        shutil.rmtree(out, ignore_errors=True)
        return self.maskwright("evaluate", "train_mlm/model", "--tasks", task, "--out", out, *options)


def measurements() -> dict[str, Callable[[Checkout], float]]:
    """Return what is measured, in order; those whose names begin with "train" are tokens/s, the others seconds."""
    return {
        "prepare": Checkout.prepare,
        **{name: lambda checkout, name=name: checkout.train(name) for name in OBJECTIVES},
        "score_held_out": lambda checkout: checkout.evaluate("held_out", "--corpus", checkout.corpus),
        "score_blimp": lambda checkout: checkout.evaluate("blimp", "--data", checkout.data),
        "fine_tune_cola": lambda checkout: checkout.evaluate(
            "cola", "--data", checkout.data, "--set", "training.epochs=1"
        ),
    }


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("before", "after", "text", "data"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    raw: dict[str, dict[str, list[float]]] = {name: {"before": [], "after": []} for name in measurements()}
    with tempfile.TemporaryDirectory() as temporary:
        checkouts = {
            side: Checkout(getattr(arguments, side), Path(temporary) / side, arguments.text, arguments.data)
            for side in ("before", "after")
        }
        for number in range(arguments.rounds):
            for name, measure in measurements().items():
                for side in ("before", "after") if number % 2 == 0 else ("after", "before"):
                    raw[name][side].append(round(measure(checkouts[side]), 4))
                print(number, name, raw[name]["before"][-1], raw[name]["after"][-1], flush=True)
    record = {
        "claim": "what AFTER does is not slower than in BEFORE",
        "environment": environment(),
        "commits": {side: commit_of(getattr(arguments, side)) for side in ("before", "after")},
        "unit": "tokens/s for train_*, seconds for the others",
        "measured": raw,
        "speed_after_over_before": {name: ratios_of(name, values) for name, values in raw.items()},
    }
    print(json.dumps(record["speed_after_over_before"], indent=1))
    if arguments.record:
        arguments.record.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def ratios_of(name: str, values: dict[str, list[float]]) -> dict[str, float]:
    """Return smallest, median and largest ratio of the rounds."""
    pairs = zip(values["before"], values["after"], strict=True)
    ratios = [after / before if name.startswith("train") else before / after for before, after in pairs]
    return {
        "smallest": round(min(ratios), 3),
        "median": round(statistics.median(ratios), 3),
        "largest": round(max(ratios), 3),
    }


def commit_of(checkout: Path) -> str:
    """Return the commit that a checkout stands at."""
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
