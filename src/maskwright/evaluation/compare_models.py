"""Compare two models on the same items: which one is better, or that there is no evidence of a difference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskwright.core.errors import EvaluationError
from maskwright.core.log import progress
from maskwright.core.records.evaluation import ComparisonRow, EvaluationRecord, ModelComparisonRecord
from maskwright.evaluation.catalogue import NamedTask
from maskwright.evaluation.items import Items
from maskwright.evaluation.run_tasks import EvaluationFolder
from maskwright.evaluation.significance import FEWEST_SEEDS, Difference, estimate_difference, holm
from maskwright.evaluation.tasks.base import LOWER_IS_BETTER

LEVEL = 0.05
"""A corrected p-value up to it is evidence."""

FEWEST_RESAMPLES = 1000

RESAMPLES_PER_ROW = 200
"""The smallest p-value is 2 / (resamples + 1): enough of them that Holm's correction for many rows can't hide all."""


@dataclass(frozen=True)
class ScoredModel:
    """A model that was scored.

    Attributes:
        name: what it is called in the comparison.
        folder: of its evaluation.
    """

    name: str
    folder: Path


@dataclass(frozen=True)
class PairedScores:
    """A task that both models were scored by: records, and items by seed."""

    named: NamedTask
    ours: EvaluationRecord
    other: EvaluationRecord
    our_items: Mapping[int, Items]
    other_items: Mapping[int, Items]


def compare(tasks: Sequence[NamedTask], ours: ScoredModel, other: ScoredModel, seed: int) -> ModelComparisonRecord:
    """Compare two models by tasks that both were scored by, and write `against/<other>.json` in the first's folder.

    Args:
        tasks: those that either was not scored by, and those without single items, are left out and noted.
        ours: the first model.
        other: the second.
        seed: of the resampling.

    Raises:
        EvaluationError: no task is left, or the two have not scored the same items.
    """
    pairs, notes = _pair_up(tasks, ours, other)
    if not pairs:
        raise EvaluationError(
            f"{ours.name} and {other.name} share no scores to compare" + (f": {notes[0]}" if notes else ""),
            "at least one task that both were scored by",
        )
    num_resamples = max(FEWEST_RESAMPLES, RESAMPLES_PER_ROW * len(pairs))
    differences = []
    with progress("comparing", total=len(pairs)) as advance:
        for pair in pairs:
            differences.append(_difference(pair, seed, num_resamples))
            advance(1)
    corrected = holm([each.p for each in differences])
    rows = [
        _row(pair, each, p, (ours.name, other.name))
        for pair, each, p in zip(pairs, differences, corrected, strict=True)
    ]
    record = ModelComparisonRecord(
        model=ours.name,
        other=other.name,
        model_sha256=pairs[0].ours.model_sha256,
        other_sha256=pairs[0].other.model_sha256,
        num_resamples=num_resamples,
        seed=seed,
        rows=rows,
        notes=[*_describe_evidence(pairs, rows, num_resamples), *notes],
    )
    record.write(EvaluationFolder(ours.folder).comparison(other.name))
    return record


def _pair_up(tasks: Sequence[NamedTask], ours: ScoredModel, other: ScoredModel) -> tuple[list[PairedScores], list[str]]:
    """Return what can be compared, and why the rest can't."""
    pairs, notes = [], []
    for named in tasks:
        folders = EvaluationFolder(ours.folder), EvaluationFolder(other.folder)
        unscored = [
            model.name
            for model, folder in zip((ours, other), folders, strict=True)
            if not folder.record(named.name).exists()
        ]
        if unscored:
            notes.append(f"{named.title} is left out: {' and '.join(unscored)} was not scored by it.")
            continue
        records = [EvaluationRecord.read(folder.record(named.name)) for folder in folders]
        items = [_items(folder, record) for folder, record in zip(folders, records, strict=True)]
        if named.task.main_metric is None or not all(items):
            notes.append(f"{named.title} is left out: it has no single items to compare.")
            continue
        if records[0].data_sha256 != records[1].data_sha256:
            raise EvaluationError(
                f"{named.title}: {ours.name} and {other.name} were scored on different data",
                "files with the same checksums",
                "evaluate both on the same data",
            )
        pairs.append(PairedScores(named, records[0], records[1], items[0], items[1]))
    return pairs, notes


def _items(folder: EvaluationFolder, record: EvaluationRecord) -> dict[int, Items]:
    """Return the items of a task by seed; empty if the task has none."""
    found = {each.seed: folder.read_items(record.task, each.seed) for each in record.seeds}
    return {seed: items for seed, items in found.items() if items is not None}


def _difference(pair: PairedScores, seed: int, num_resamples: int) -> Difference:
    task, metric = pair.named.task, pair.named.task.main_metric
    assert metric is not None
    try:
        return estimate_difference(
            lambda items: task.scores(items)[metric], pair.our_items, pair.other_items, seed, num_resamples
        )
    except EvaluationError as error:
        raise EvaluationError(f"{pair.named.title}: {error.got}", error.expected, error.to_do) from error


def _row(pair: PairedScores, found: Difference, p_corrected: float, names: tuple[str, str]) -> ComparisonRow:
    metric = pair.named.task.main_metric
    assert metric is not None
    verdict = "no evidence of a difference"
    if p_corrected <= LEVEL and found.value:
        is_first_better = (found.value > 0) != (metric in LOWER_IS_BETTER)
        verdict = f"{names[0] if is_first_better else names[1]} is better"
    return ComparisonRow(
        task=pair.named.name,
        title=pair.named.title,
        metric=metric,
        model_mean=pair.ours.scores[metric],
        model_deviation=pair.ours.deviations.get(metric),
        other_mean=pair.other.scores[metric],
        other_deviation=pair.other.deviations.get(metric),
        difference=found.value,
        interval=found.interval,
        p_items=found.p_items,
        p_seeds=found.p_seeds,
        p_corrected=p_corrected,
        num_items=len(next(iter(pair.our_items.values()))),
        num_seeds=min(len(pair.our_items), len(pair.other_items)),
        verdict=verdict,
    )


def _describe_evidence(pairs: Sequence[PairedScores], rows: Sequence[ComparisonRow], num_resamples: int) -> list[str]:
    """Return in words how the evidence was weighed."""
    notes = [
        f"p over items: paired bootstrap, {num_resamples:,} resamples, the same items for both models. p over seeds: "
        f"t-test, paired where the seeds are the same, from {FEWEST_SEEDS} seeds on. The larger of the two counts, "
        f"after Holm's correction for {len(rows)} comparison{'s' if len(rows) > 1 else ''}; up to {LEVEL} is evidence.",
        "No evidence of a difference is not evidence that there is none.",
    ]
    untold = [
        row.title for pair, row in zip(pairs, rows, strict=True) if row.p_seeds is None and pair.named.task.is_repeated
    ]
    if untold:
        notes.append(
            f"Over items alone, as there are fewer than {FEWEST_SEEDS} seeds or they make no difference, and so silent "
            f"on how fine-tuning with other seeds would end: {', '.join(untold)}."
        )
    return notes
