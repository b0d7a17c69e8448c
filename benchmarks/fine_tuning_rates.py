"""Measure fine-tuning at several learning rates, the default among them, beside a bag of words.

    python benchmarks/fine_tuning_rates.py RUN DATA --record benchmarks/records/<date>_fine_tuning_rates.json

RUN is a finished run (or any model folder), DATA the folder with the data sets. SST-2 takes one epoch, the other tasks
the default of four; one seed. The record has the scores on the reported split for every rate. Nobody may choose by
these: they show how far the default is from the best. Tasks that the record has already stay in it.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from maskwright.core.files import write_json_atomically
from maskwright.core.hardware import environment
from maskwright.evaluation.catalogue import find_tasks
from maskwright.evaluation.evaluated_model import EvaluatedModel
from maskwright.pipeline.locate import model_folder_of

TASKS = {"rte": 4, "mrpc": 4, "cola": 4, "ag_news": 4, "sst2": 1}
"""Names with their epochs."""

RATES = (1e-4, 3e-4, 1e-3, 3e-3)
SEED = 1


def main() -> None:
    """Fine-tune for every task and rate, and write the record after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--rates", type=float, nargs="*", default=RATES, help="besides the default")
    arguments = parser.parse_args()
    subject = EvaluatedModel(model_folder_of(arguments.run), data=arguments.data)
    default = find_tasks(["rte"], {})[0].task.config.training.for_width(subject.width).peak_learning_rate
    record: dict[str, Any] = {
        "environment": environment(),
        "width": subject.width,
        "default_learning_rate": default,
        "tasks": {},
    }
    if arguments.record.exists():
        record["tasks"] = json.loads(arguments.record.read_text(encoding="utf-8"))["tasks"]
    for name in arguments.tasks.split(","):
        row: dict[str, Any] = {"epochs": TASKS[name], "scores": {}}
        for rate in sorted({default, *arguments.rates}):
            settings = {f"{name}.training.epochs": TASKS[name], f"{name}.training.learning_rate": rate}
            (named,) = find_tasks([name], settings)
            begin = time.perf_counter()
            result = named.task.evaluate(subject, SEED)
            metric = str(named.task.main_metric)
            row["metric"] = metric
            row["baselines"] = {guesser: round(each[metric], 4) for guesser, each in result.baselines.items()}
            row["scores"][f"{rate:g}"] = round(result.scores[metric], 4)
            print(name, f"{rate:g}", json.dumps(row), f"{time.perf_counter() - begin:.0f} s", flush=True)
        row["default"] = row["scores"][f"{default:g}"]
        row["best"] = max(row["scores"].values())
        record["tasks"][name] = row
        write_json_atomically(arguments.record, record)


if __name__ == "__main__":
    main()
