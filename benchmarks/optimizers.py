"""Measure what an encoder learns from the same tokens with AdamW and with Muon, each at its best rate and batch.

    python benchmarks/optimizers.py CORPUS --record benchmarks/records/<date>_optimizers.json

CORPUS is a prepared corpus (`maskwright prepare`) with a vocabulary of 16,384. Every trial trains `modernbert` of the
size `mini` (6 layers, 256 wide) on 1.23 million tokens in sequences of 128 with `mlm` at 30 %, the rate going up over
6 % of the run and down linearly, and then has the cross-entropy of 15 % of 131,072 held-out tokens, always [MASK].

Both optimizers get the same search: every rate with every batch, one seed. The best of each then has two seeds more.
The variants change one thing of the winner, with the same three seeds. Trials that the record has already are not made
again. Beside them stands a constant answer: the frequencies of the training text.
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from maskwright.core.files import write_json_atomically
from maskwright.core.hardware import environment
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder
from maskwright.corpus.corpus import open_corpus
from maskwright.training.loop import TrainingLoop
from maskwright.training.model import build_model
from maskwright.training.recipe.recipe import parse_recipe, with_overrides
from maskwright.training.run import assemble_run
from maskwright.training.watching.held_out_loss import HeldOutLoss

TOKENS, LENGTH = 1_228_800, 128
OPTIMIZERS, BATCHES, RATES, SEEDS = ("adamw", "muon"), (2048, 8192), (5e-4, 1e-3, 2e-3, 4e-3), (1, 2, 3)
Changes = dict[str, Any]

VARIANTS: dict[str, Changes] = {
    "AdamW's beta2 0.95": {"optimizer.beta2": 0.95},
    "weight decay 0.1": {"optimizer.weight_decay": 0.1},
    "momentum 0.9": {"optimizer.momentum": 0.9},
    "no clipping": {"optimizer.clip_norm": 0},
    "embeddings at half the rate": {"optimizer.learning_rate_factors.embedding": 0.5},
    "embeddings at twice the rate": {"optimizer.learning_rate_factors.embedding": 2.0},
    "15 % masked": {"phases": [{"objective": {"name": "mlm", "rate": 0.15}, "sequence_length": LENGTH}]},
    "warm-up of 2 %": {"schedule.warmup_fraction": 0.02},
    "flat, then down over the last 40 %": {"schedule.name": "warmup_stable_decay", "schedule.decay_fraction": 0.4},
    "rotary base 10,000": {"encoder.overrides.global_rope_theta": 10_000.0},
}


def recipe_of(changes: Changes) -> dict[str, Any]:
    """Return a trial's recipe as it would stand in a file."""
    return with_overrides(
        {
            "name": "trial",
            "tokenizer": {"kind": "wordpiece", "vocabulary_size": 16_384},
            "encoder": {"family": "modernbert", "size": "mini"},
            "budget": {"tokens": TOKENS},
            "phases": [{"objective": {"name": "mlm", "rate": 0.30}, "sequence_length": LENGTH}],
            "schedule": {"name": "linear", "warmup_fraction": 0.06},
            "engine": {"compile": "off", "attention": "padded"},
            "checkpoints": {"every_minutes": None, "keep_best": False},
        },
        changes,
    )


def trial(corpus_folder: Path, changes: Changes) -> dict[str, Any]:
    """Train once on one core, and return what the model has learned."""
    torch.set_num_threads(1)
    corpus = open_corpus(corpus_folder, verify=False)
    with tempfile.TemporaryDirectory() as folder:
        run = assemble_run(parse_recipe(recipe_of(changes), "trial"), corpus, RunFolder(Path(folder)), Ranks(), {})
        loop = TrainingLoop(run)
        begin = time.perf_counter()
        loop.train()
        seconds = time.perf_counter() - begin
        norms = [json.loads(line)["gradient_norm"] for line in run.folder.metrics.read_text().splitlines()]
    asked = {"name": "mlm", "rate": 0.15}
    question = changes | {
        "phases": [{"objective": asked, "sequence_length": LENGTH}],
        "probes.tokens": 131_072,
        "seed": 1,
    }
    measured = parse_recipe(recipe_of(question), "question")
    trained = loop.phase.model
    model = build_model(measured, corpus.vocabulary, 0, (trained.encoder, trained.vocabulary_head))
    dtype = getattr(torch, run.engine.dtype)
    return {
        "changes": changes,
        "held_out": round(HeldOutLoss(measured, corpus, Ranks())(model, 0, dtype)["held_out_loss"], 4),
        "steps": run.course.num_steps,
        "largest_gradient_norm_after_a_tenth": round(max(norms[len(norms) // 10 :]), 2),
        "seconds": round(seconds, 1),
    }


def constant_answer(corpus_folder: Path) -> float:
    """Return the cross-entropy of held-out tokens under the frequencies of training, each counted once more."""
    corpus = open_corpus(corpus_folder, verify=False)
    counts_V = torch.as_tensor(corpus.unigram_counts_V).double() + 1
    split = corpus.split("held_out")
    total, count = 0.0, 0
    for _, tokens in split.blocks(1 << 20):
        total -= float((counts_V / counts_V.sum()).log()[torch.as_tensor(tokens.token_ids)].sum())
        count += len(tokens.token_ids)
    return round(total / count, 4)


class Trials:
    """The trials of a record, made as they are asked for."""

    def __init__(self, corpus: Path, record: Path, jobs: int) -> None:
        """Read what is there."""
        self._corpus, self._path, self._jobs = corpus, record, jobs
        self.record: dict[str, Any] = {"environment": environment(), "trials": []}
        if record.exists():
            self.record = json.loads(record.read_text(encoding="utf-8"))

    def make(self, asked: list[Changes]) -> list[dict[str, Any]]:
        """Return trials in the order they are asked for; each is written down when it ends."""
        missing = [changes for changes in asked if self._found(changes) is None]
        spawn = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(self._jobs, spawn, max_tasks_per_child=1) as pool:
            futures = [pool.submit(trial, self._corpus, changes) for changes in missing]
            for future in concurrent.futures.as_completed(futures):
                self.note(trials=[*self.record["trials"], future.result()])
                print(json.dumps(future.result()), flush=True)
        return [found for changes in asked if (found := self._found(changes)) is not None]

    def note(self, **news: Any) -> None:
        """Write the record."""
        self.record |= news
        write_json_atomically(self._path, self.record)

    def _found(self, changes: Changes) -> dict[str, Any] | None:
        return next((each for each in self.record["trials"] if each["changes"] == changes), None)


def summary(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and deviation of some seeds."""
    losses = [each["held_out"] for each in trials]
    return {
        "changes": {key: value for key, value in trials[0]["changes"].items() if key != "seed"},
        "held_out": losses,
        "mean": round(statistics.mean(losses), 4),
        "deviation": round(statistics.stdev(losses), 4),
        "seconds": round(statistics.mean(each["seconds"] for each in trials), 1),
    }


def main() -> None:
    """Search, compare, vary, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2, help="trials at once, each on one core")
    arguments = parser.parse_args()
    trials = Trials(arguments.corpus, arguments.record, arguments.jobs)
    trials.note(tokens=TOKENS, constant_answer=constant_answer(arguments.corpus))
    grid = [
        {
            "optimizer.name": name,
            "batch.tokens": batch,
            "batch.micro_batch_tokens": batch,
            "optimizer.learning_rate": rate,
        }
        for batch in BATCHES
        for rate in RATES
        for name in OPTIMIZERS
    ]
    searched = trials.make([changes | {"seed": SEEDS[0]} for changes in grid])
    best: dict[str, Changes] = {}
    for each in sorted(searched, key=lambda each: -each["held_out"]):
        best[each["changes"]["optimizer.name"]] = {key: each["changes"][key] for key in grid[0]}

    def seeds_of(changes: Changes) -> dict[str, Any]:
        return summary(trials.make([changes | {"seed": seed} for seed in SEEDS]))

    compared = {name: seeds_of(best[name]) for name in OPTIMIZERS}
    trials.note(best_of_search=compared)
    winner = best[min(compared, key=lambda name: compared[name]["mean"])]
    for name, change in VARIANTS.items():
        trials.note(variants={**trials.record.get("variants", {}), name: seeds_of(winner | change)})


if __name__ == "__main__":
    main()
