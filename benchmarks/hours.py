"""Measure how well a run keeps to the time that was asked for while the machine's speed changes.

    python benchmarks/hours.py CORPUS --record benchmarks/records/<date>_hours.json

CORPUS is a prepared corpus (`maskwright prepare recipes/tiny.yaml`). Every run trains `recipes/tiny.yaml` with a budget
of a minute, alone or beside processes that do nothing but count, one for each core, so that it gets half of the
machine. Counted is what a budget in hours counts: training steps.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import threading
import time
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from maskwright.core.files import write_json_atomically
from maskwright.core.hardware import environment
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder, RunRecord
from maskwright.corpus.corpus import Corpus, open_corpus
from maskwright.training.loop import TrainingLoop
from maskwright.training.recipe.recipe import parse_recipe, read_recipe
from maskwright.training.run import assemble_run

RECIPE = Path(__file__).parents[1] / "recipes" / "tiny.yaml"

CONDITIONS: dict[str, tuple[bool, float | None]] = {
    "idle": (False, None),
    "busy": (True, None),
    "busy until the middle": (True, 0.5),
    "busy from the middle on": (False, 0.5),
    "busy when it was planned": (True, 0.05),
}
"""Whether the machine is busy when the run is planned, and after which share of the time that turns around."""


def count() -> None:
    """Keep a core busy."""
    number = 0
    while True:
        number += 1


class Load:
    """Processes that keep every core busy, switched on and off."""

    def __init__(self) -> None:
        """Begin without any."""
        self._processes: list[SpawnProcess] = []

    def switch(self, is_on: bool) -> None:
        """Start them, or end them."""
        for process in self._processes:
            process.kill()
            process.join()
        spawn = multiprocessing.get_context("spawn")
        self._processes = [spawn.Process(target=count, daemon=True) for _ in range(os.cpu_count() or 1) if is_on]
        for process in self._processes:
            process.start()


def one_run(corpus: Corpus, seconds: float, is_busy: bool, turn: float | None) -> dict[str, Any]:
    """Train once under a condition, and return what was asked and what was."""
    raw = read_recipe(RECIPE).model_dump(mode="json")
    raw |= {"budget": {"hours": seconds / 3600}, "probes": {}}
    load = Load()
    with tempfile.TemporaryDirectory() as temporary:
        folder = RunFolder(Path(temporary))
        load.switch(is_busy)
        try:
            loop = TrainingLoop(assemble_run(parse_recipe(raw, "hours"), corpus, folder, Ranks(), {}))
            if turn is not None:
                threading.Timer(turn * seconds, load.switch, [not is_busy]).start()
            begin = time.perf_counter()
            loop.train()
            wall = time.perf_counter() - begin
        finally:
            load.switch(False)
        plan = RunRecord.read(folder.run_record).plan
    return {
        "asked_seconds": seconds,
        "training_seconds": round(loop.state.seconds, 2),
        "wall_seconds": round(wall, 2),
        "deviation": round(loop.state.seconds / seconds - 1, 4),
        "planned_steps": sum(plan.planned_steps) or plan.total_steps,
        "steps": loop.state.step,
        "changes": len(plan.changes),
    }


def main() -> None:
    """Run every condition, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--record", type=Path, required=True)
    arguments = parser.parse_args()
    corpus = open_corpus(arguments.corpus, verify=False)
    record: dict[str, Any] = {
        "claim": "a run ends within 3 % of the hours that were asked for",
        "environment": environment(),
        "runs": [],
    }
    for _ in range(arguments.rounds):
        for name, (is_busy, turn) in CONDITIONS.items():
            record["runs"].append({"condition": name} | one_run(corpus, arguments.seconds, is_busy, turn))
            print(json.dumps(record["runs"][-1]), flush=True)
            record["largest_deviation"] = max(abs(run["deviation"]) for run in record["runs"])
            write_json_atomically(arguments.record, record)


if __name__ == "__main__":
    main()
