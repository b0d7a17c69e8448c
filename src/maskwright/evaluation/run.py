"""Scores a model folder by tasks and writes one record a task."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from maskwright.core.discovery import load_plug_in
from maskwright.core.errors import EvaluationError, RecipeError, nearest
from maskwright.core.files import sha256_of_file
from maskwright.core.hardware import environment
from maskwright.core.records import EvaluationRecord
from maskwright.corpus.corpus import Corpus
from maskwright.evaluation.scorer import MaskedLanguageModel
from maskwright.evaluation.tasks.base import Task

TASKS = "maskwright.evaluation.tasks"


def build_task(name: str, settings: Mapping[str, Any]) -> Task:
    """Return a task by its name ("held_out", or "module:Class") and settings.

    Raises:
        RecipeError: there is no such task, or it has no such setting.
    """
    task = load_plug_in(TASKS, name, Task)  # pyright: ignore[reportAbstractUsage]
    try:
        return task(task.Config.model_validate(dict(settings)))  # pyright: ignore[reportAbstractUsage]
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        known = list(task.Config.model_fields)
        hint = nearest(place, known) if first["type"] == "extra_forbidden" else ""
        raise RecipeError(
            f"task {name}: {place}: {first['msg']}{hint}",
            "one of " + ", ".join(known) if known else "no settings",
        ) from error


def evaluate(
    model_folder: Path, corpus: Corpus | None, tasks: Mapping[str, Mapping[str, Any]], seed: int, out_folder: Path
) -> list[EvaluationRecord]:
    """Score a model and write `<out_folder>/<task>.json` for each task.

    Args:
        model_folder: an exported Hugging Face model with its tokenizer.
        corpus: for the tasks that score a prepared corpus.
        tasks: settings by task; an empty mapping means the task's defaults.
        seed: of everything the tasks draw.
        out_folder: made if absent; records of other tasks in it are left alone.

    Raises:
        RecipeError: a task or setting that does not exist.
        EvaluationError: a task that can't be scored.
    """
    built = {name: build_task(name, settings) for name, settings in tasks.items()}
    for name, task in built.items():
        if task.needs_corpus and corpus is None:
            raise EvaluationError(
                f"the task {name} was given no corpus", "a prepared corpus", "name its folder with --corpus"
            )
    model = MaskedLanguageModel.from_folder(model_folder)
    model_sha256 = sha256_of_file(model_folder / "model.safetensors")
    records = []
    for name, task in built.items():
        begin = time.perf_counter()
        result = task.evaluate(model, corpus, seed)
        record = EvaluationRecord(
            task=name,
            model=str(model_folder),
            model_sha256=model_sha256,
            settings={"seed": seed, **task.config.model_dump(mode="json"), **result.settings},
            scores=result.scores,
            baselines=result.baselines,
            examples=result.examples,
            data_sha256=result.data_sha256,
            environment=environment() | {"device": str(model.device)},
            seconds=time.perf_counter() - begin,
        )
        record.write(out_folder / f"{name.replace(':', '.')}.json")
        records.append(record)
    return records
