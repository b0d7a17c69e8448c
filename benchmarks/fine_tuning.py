"""Measure fine-tuning beside Hugging Face's Trainer: one model folder, one data set, equal hyper-parameters and seeds.

    pip install 'maskwright[benchmarks]'
    python benchmarks/fine_tuning.py MODEL DATA --task cola --record benchmarks/records/<date>_fine_tuning.json

MODEL is an exported model folder, DATA the folder of `--data`. The contestants, in turn for every seed:

- trainer: `Trainer` + `AutoModelForSequenceClassification` with dynamic padding (`DataCollatorWithPadding`), as
  run_glue.py sets them up: float32;
- trainer_tuned: the same at its best: bf16 and batches grouped by length;
- ours: packed batches, with the precision that `auto` measures here;
- ours_float32: the same in float32.

All have the texts as token ids before the clock starts, the same number of epochs, batch size, learning rate, schedule,
weight decay and clipping, and no dropout but the folder's own. The clock runs from the first step to the end of the
last; each contestant answers the reported split by its own means, and one function scores the answers.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from maskwright.core.hardware import environment
from maskwright.evaluation.catalogue import find_tasks
from maskwright.evaluation.datasets.labelled import LabelledTexts, Splits
from maskwright.evaluation.datasets.read_splits import read_splits
from maskwright.evaluation.evaluated_model import EvaluatedModel
from maskwright.evaluation.fine_tuning.experiment import Experiment
from maskwright.evaluation.fine_tuning.task import FineTunedTask

FIRST_SEED = 12


@dataclass(frozen=True)
class Work:
    """What every contestant does."""

    subject: EvaluatedModel
    task: FineTunedTask
    splits: Splits


@dataclass(frozen=True)
class Done:
    """What a contestant did with one seed."""

    examples_per_second: float
    scores: dict[str, float]


Contestant = Callable[[Work, int], Done]


def ours(precision: str) -> Contestant:
    """Our engine."""

    def run(work: Work, seed: int) -> Done:
        config = work.task.config
        training = config.training.model_copy(update={"precision": precision})
        task = type(work.task)(config.model_copy(update={"training": training}))
        items, facts = Experiment(task, work.subject, work.splits, seed).run()
        return Done(facts["train_examples_per_second"], task.scores(items))

    return run


class Clock(transformers.TrainerCallback):
    """Notes when training began and ended, set-up left out."""

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Start."""
        self.begin = time.perf_counter()

    def on_train_end(self, args, state, control, **kwargs) -> None:
        """Stop."""
        self.seconds = time.perf_counter() - self.begin


def trainer(is_tuned: bool) -> Contestant:
    """`Trainer` with dynamic padding."""

    def run(work: Work, seed: int) -> Done:
        training, tokenizer = work.task.config.training, work.subject.tokenizer
        transformers.set_seed(seed)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            work.subject.folder, num_labels=max(1, len(work.splits.label_names))
        )
        options: dict[str, Any] = {"bf16": True, "train_sampling_strategy": "group_by_length"} if is_tuned else {}
        arguments = transformers.TrainingArguments(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=training.batch_size,
            per_device_eval_batch_size=64,
            num_train_epochs=training.epochs,
            learning_rate=training.learning_rate,
            warmup_steps=training.warmup_fraction,
            weight_decay=training.weight_decay,
            max_grad_norm=training.clip_norm,
            seed=seed,
            save_strategy="no",
            report_to="none",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
            **options,
        )
        clock = Clock()
        engine = transformers.Trainer(
            model=model,
            args=arguments,
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
            train_dataset=tokenized(work, work.splits.train),
            callbacks=[clock],
        )
        engine.train()
        answered = engine.predict(tokenized(work, work.splits.test))  # pyright: ignore[reportArgumentType]
        # Grouping by length reorders the answers too; their labels come in the same order.
        rows = replace(work.splits.test, targets=np.asarray(answered.label_ids).tolist())
        items = work.task.items(None, np.asarray(answered.predictions), rows, work.splits)  # pyright: ignore[reportArgumentType]
        return Done(len(work.splits.train) * training.epochs / clock.seconds, work.task.scores(items))

    return run


def tokenized(work: Work, rows: LabelledTexts) -> list[dict[str, Any]]:
    """Return rows as `Trainer` takes them."""
    texts = [list(part) for part in zip(*rows.texts, strict=True)]
    encoded = work.subject.tokenizer(*texts, truncation=True, max_length=work.task.config.training.max_length)
    return [
        {name: column[row] for name, column in encoded.items()}
        | {"label": target, "length": len(encoded["input_ids"][row])}
        for row, target in enumerate(rows.targets)
    ]


CONTESTANTS: dict[str, Contestant] = {
    "trainer": trainer(is_tuned=False),
    "trainer_tuned": trainer(is_tuned=True),
    "ours": ours("auto"),
    "ours_float32": ours("float32"),
}


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", default="cola", help="a classification task of maskwright")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--examples", type=int, help="learn from so many examples only")
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    settings = {"epochs": arguments.epochs, "batch_size": arguments.batch_size, "dropout": None}
    settings["learning_rate"] = arguments.learning_rate
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    named = find_tasks([arguments.task], {f"training.{name}": value for name, value in settings.items()})[0]
    assert isinstance(named.task, FineTunedTask)
    subject = EvaluatedModel(arguments.model, data=arguments.data)
    splits = read_splits(named.task.config.data, named.task.kind, arguments.data, named.title)
    if arguments.examples:
        splits = Splits(splits.train.take(np.arange(arguments.examples)), splits.test, None, splits.label_names)
    work = Work(subject, named.task, splits)
    done: dict[str, list[Done]] = {name: [] for name in CONTESTANTS}
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
        for name, run in CONTESTANTS.items():
            with warnings.catch_warnings(), contextlib.redirect_stdout(None):
                warnings.simplefilter("ignore")
                done[name].append(run(work, seed))
            print(f"seed {seed} {name}: {done[name][-1].examples_per_second:,.1f} examples/s", flush=True)
    metric = str(named.task.main_metric)
    record = {
        "claim": "at least 1.5 x the examples/s of Trainer with dynamic padding, with equal scores within the spread",
        "environment": environment() | {"accelerate": _version("accelerate")},
        "threads": torch.get_num_threads(),
        "model": {"sha256": subject.sha256, "parameters": parameters_of(subject)},
        "task": named.name,
        "train_examples": len(splits.train),
        "reported_examples": len(splits.test),
        "settings": named.task.config.training.model_dump(mode="json"),
        "examples_per_second": {
            name: [round(one.examples_per_second, 1) for one in all_] for name, all_ in done.items()
        },
        "scores": {name: [one.scores for one in all_] for name, all_ in done.items()},
        "mean_and_deviation": {name: spread([one.scores[metric] for one in all_]) for name, all_ in done.items()},
        "metric": metric,
        "ratios": {
            f"{one}_over_{other}": ratio(done[one], done[other])
            for one, other in (
                ("ours", "trainer"),
                ("ours", "trainer_tuned"),
                ("ours_float32", "trainer"),
            )
        },
    }
    print(json.dumps({key: record[key] for key in ("mean_and_deviation", "ratios")}, indent=2))
    if arguments.record:
        arguments.record.parent.mkdir(parents=True, exist_ok=True)
        arguments.record.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def ratio(ours_: list[Done], theirs: list[Done]) -> float:
    """Return the median over seeds of the ratio of speeds, each pair measured one after the other."""
    pairs = zip(ours_, theirs, strict=True)
    return round(statistics.median(one.examples_per_second / other.examples_per_second for one, other in pairs), 3)


def spread(values: list[float]) -> dict[str, float]:
    """Return mean and sample standard deviation (ddof 1)."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": round(statistics.mean(values), 4), "deviation": round(deviation, 4)}


def parameters_of(subject: EvaluatedModel) -> int:
    """Return how many weights the encoder has."""
    return sum(parameter.numel() for parameter in subject.new_encoder().parameters())


def _version(package: str) -> str:
    import importlib.metadata

    return importlib.metadata.version(package)


if __name__ == "__main__":
    main()
