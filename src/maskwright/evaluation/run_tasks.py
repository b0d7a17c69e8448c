"""Run tasks on a model and write one record per task; finished results are kept and reused."""

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from maskwright.core.errors import CheckpointError, MissingData
from maskwright.core.files import sha256_of_file
from maskwright.core.hardware import environment
from maskwright.core.log import say, warn
from maskwright.core.records.base import Record
from maskwright.core.records.evaluation import EvaluationRecord, SeedRecord
from maskwright.evaluation.catalogue import NamedTask
from maskwright.evaluation.evaluated_model import DECODER_NOTE, EvaluatedModel
from maskwright.evaluation.items import Items
from maskwright.evaluation.significance import bootstrap_interval
from maskwright.evaluation.tasks.base import LOWER_IS_BETTER, TaskResult, is_better

FIRST_SEED = 12
"""Of tasks that are repeated: the BabyLM pipelines fine-tune with seed 12; more seeds count up from it."""


@dataclass(frozen=True)
class EvaluationFolder:
    """The files of an evaluation in its folder."""

    folder: Path

    def record(self, task: str) -> Path:
        """`EvaluationRecord` of a task."""
        return self.folder / f"{task}.json"

    def finished_seed(self, task: str, seed: int) -> Path:
        """`FinishedSeed`: one seed of a task."""
        return self.folder / "seeds" / f"{task}.seed-{seed}.json"

    def items(self, task: str, seed: int) -> Path:
        """`Items` of one seed of a task."""
        return self.folder / "items" / f"{task}.seed-{seed}.jsonl"

    def read_items(self, task: str, seed: int) -> Items | None:
        """Return the items of one seed of a task; None if there are none.

        Raises:
            CheckpointError: they are damaged, or gone.
        """
        path, finished = self.items(task, seed), self.finished_seed(task, seed)
        expected = FinishedSeed.read(finished).items_sha256 if finished.exists() else None
        if expected is not None and not (path.is_file() and sha256_of_file(path) == expected):
            raise CheckpointError(
                f"{path} is missing or was altered", "the items of a finished evaluation", "evaluate again with --again"
            )
        return Items.read(path) if path.exists() else None

    def comparison(self, other: str) -> Path:
        """`ModelComparisonRecord` with another model; its name may be a path or a name on the hub."""
        name = re.sub(r"[^\w.-]+", "--", other).strip("-.")
        return self.folder / "against" / f"{name or 'other'}.json"


class FinishedSeed(Record):
    """One finished seed of a task, from which an interrupted evaluation continues."""

    key: str = Field(description="of the model, the data and the settings; another key means another result")
    seed: int
    seconds: float
    result: dict[str, Any] = Field(description="`TaskResult`")
    items_sha256: str | None = Field(default=None, description="checksum of the file of its items, if it has some")


@dataclass(frozen=True)
class EvaluationOutcome:
    """The result of an evaluation.

    Attributes:
        records: of the tasks that were scored, in their order.
        missing: one error for all missing data sets; None if there are none.
    """

    records: list[EvaluationRecord]
    missing: MissingData | None


@dataclass(frozen=True)
class SeedRun:
    """One seed of a task, just scored or found on disk."""

    seed: int
    seconds: float
    result: TaskResult
    items: Items | None


def evaluate(
    subject: EvaluatedModel,
    tasks: Sequence[NamedTask],
    out_folder: Path,
    seed: int,
    num_seeds: int = 1,
    is_fresh: bool = False,
    first_seed: int = FIRST_SEED,
) -> EvaluationOutcome:
    """Score a model and write `<out_folder>/<task>.json` for each task.

    A missing data set does not stop the other tasks.

    Args:
        subject: the model and the data.
        tasks: what to score it by.
        out_folder: made if absent; records of other tasks in it are left alone.
        seed: of everything that is drawn by tasks that are not repeated.
        num_seeds: how often tasks that are repeated are run, with the seeds `first_seed` and up.
        is_fresh: do again what is finished.
        first_seed: of tasks that are repeated.

    Raises:
        EvaluationError: a task that can't be scored.
    """
    records: list[EvaluationRecord] = []
    missing: dict[str, MissingData] = {}
    for named in tasks:
        try:
            data_sha256 = named.task.data_sha256(subject)
        except MissingData as error:
            missing[named.name] = error
            warn(f"{named.title} is left out: {error.got}")
            continue
        seeds = range(first_seed, first_seed + num_seeds) if named.task.is_repeated else [seed]
        runs = [_one_seed(named, subject, one, data_sha256, EvaluationFolder(out_folder), is_fresh) for one in seeds]
        record = combine_seeds(named, runs, subject, data_sha256, seed)
        record.write(EvaluationFolder(out_folder).record(named.name))
        records.append(record)
    return EvaluationOutcome(records, _join_missing(missing, len(records)) if missing else None)


def result_key(named: NamedTask, subject: EvaluatedModel, seed: int, data_sha256: dict[str, str]) -> str:
    """Return the key of a result: equal keys mean equal results."""
    what = {
        "task": named.kind,
        "config": named.task.config.model_dump(mode="json", exclude={"title", "citation"}),
        "model": subject.sha256,
        "data": data_sha256,
        "seed": seed,
        "maskwright": version("maskwright"),
    }
    if _has_decoder(named, subject):
        what["decoder"] = True
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _has_decoder(named: NamedTask, subject: EvaluatedModel) -> bool:
    """Return whether a decoder takes part that is not in the model's folder; fine-tuning drops it."""
    return not named.task.is_repeated and subject.reader is not None


def _one_seed(
    named: NamedTask,
    subject: EvaluatedModel,
    seed: int,
    data_sha256: dict[str, str],
    folder: EvaluationFolder,
    is_fresh: bool,
) -> SeedRun:
    """Score one seed of a task, or take it from disk."""
    key = result_key(named, subject, seed, data_sha256)
    path, items_path = folder.finished_seed(named.name, seed), folder.items(named.name, seed)
    if not is_fresh and (found := _read_finished(folder, named.name, seed, key)) is not None:
        say(f"{named.title}, seed {seed}: finished before, not done again")
        return found
    begin = time.perf_counter()
    result = named.task.evaluate(subject, seed)
    seconds = time.perf_counter() - begin
    # First: what an earlier result names would no longer be there.
    path.unlink(missing_ok=True)
    items_path.unlink(missing_ok=True)
    if result.items is not None:
        result.items.write(items_path)
    # Last: what it names is whole.
    finished = FinishedSeed(
        key=key,
        seed=seed,
        seconds=seconds,
        result=result.model_dump(mode="json"),
        items_sha256=None if result.items is None else sha256_of_file(items_path),
    )
    finished.write(path)
    return SeedRun(seed, seconds, result, result.items)


def _read_finished(folder: EvaluationFolder, task: str, seed: int, key: str) -> SeedRun | None:
    """Return a finished seed of the same model, data and settings; None if there is none, or it is damaged."""
    path = folder.finished_seed(task, seed)
    if not path.exists():
        return None
    try:
        finished = FinishedSeed.read(path)
        items = folder.read_items(task, seed) if finished.key == key else None
    except CheckpointError as error:
        warn(f"{error.got}; it is done again")
        return None
    if finished.key != key:
        return None
    return SeedRun(finished.seed, finished.seconds, TaskResult.model_validate(finished.result), items)


def combine_seeds(
    named: NamedTask, runs: Sequence[SeedRun], subject: EvaluatedModel, data_sha256: dict[str, str], seed: int
) -> EvaluationRecord:
    """Return the record of a task from its seeds: means, and sample standard deviations (ddof 1)."""
    task, first = named.task, runs[0]
    scores = [run.result.scores for run in runs]
    means = {name: float(np.mean([each[name] for each in scores])) for name in scores[0]}
    deviations = {}
    if len(runs) > 1:
        deviations = {name: float(np.std([each[name] for each in scores], ddof=1)) for name in scores[0]}
    groups = {
        group: {name: float(np.mean([run.result.groups[group][name] for run in runs])) for name in metrics}
        for group, metrics in first.result.groups.items()
    }
    intervals = {}
    items = [run.items for run in runs if run.items is not None]
    if items and (metric := task.main_metric) is not None:
        intervals[metric] = bootstrap_interval(lambda drawn: task.scores(drawn)[metric], items, seed)
    settings = task.config.model_dump(mode="json", exclude={"title", "citation"})
    shared = first.result.settings if len(runs) == 1 else {}
    notes = [note for run in runs for note in run.result.notes]
    if _has_decoder(named, subject):
        notes.append(f"In this task {DECODER_NOTE}.")
    record = EvaluationRecord(
        task=named.name,
        title=named.title,
        kind=named.kind,
        citation=task.config.citation or task.citation,
        table=named.table,
        model=subject.name,
        model_sha256=subject.sha256,
        settings=({} if task.is_repeated else {"seed": seed}) | settings | shared,
        main_metric=task.main_metric,
        scores=means,
        deviations=deviations,
        intervals=intervals,
        groups=groups,
        seeds=[
            SeedRecord(seed=run.seed, scores=run.result.scores, settings=run.result.settings, seconds=run.seconds)
            for run in runs
        ],
        baselines=first.result.baselines,
        examples=first.result.examples,
        notes=list(dict.fromkeys(notes)),
        data_sha256=data_sha256,
        environment=environment() | {"device": str(subject.device)},
        seconds=sum(run.seconds for run in runs),
    )
    if task.is_repeated and (note := _note_uninformative(record)):
        record.notes.append(note)
    return record


def unbeaten_baseline(record: EvaluationRecord, score: float) -> tuple[str, float] | None:
    """Return name and score of the strongest baseline of a task, if a model's score by the main metric is no better."""
    metric = str(record.main_metric)
    found = record.best_baseline(metric in LOWER_IS_BETTER)
    if found is None or is_better(metric, score, found[1]):
        return None
    return found[0].replace("_", " "), found[1]


def _note_uninformative(record: EvaluationRecord) -> str | None:
    """Return a warning if a model that was fine-tuned is no better than a guesser."""
    found = unbeaten_baseline(record, record.scores[str(record.main_metric)])
    if found is None:
        return None
    return (
        f"Not informative: the baseline ({found[0]}) is at least as good, so the score says little about the encoder."
    )


def _join_missing(missing: dict[str, MissingData], num_scored: int) -> MissingData:
    """Return one error for all missing data sets."""
    first = next(iter(missing.values()))
    if len(missing) == 1:
        return first
    return MissingData(
        f"{len(missing)} data sets are not there: {', '.join(missing)} ({num_scored} tasks were scored); "
        f"of the first: {first.got}",
        first.expected,
        first.to_do,
    )
