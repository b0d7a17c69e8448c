"""Scores in the two formats that the hub reads: `model-index` in the card's metadata, and `.eval_results/*.yaml`.

Source: https://huggingface.co/docs/hub/eval-results; `huggingface_hub.EvalResult` and `EvalResultEntry`.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from maskwright.core.integrity import write_sealed
from maskwright.core.records.evaluation import EvaluationRecord
from maskwright.reports.formatting import clean, label_of
from maskwright.reports.tables import format_value, title_of

MARK = "# Written by Maskwright and overwritten by it; delete this line to keep the file as it is.\n"

HELD_OUT_METRICS = {
    "clean_top1_accuracy": ("accuracy", "Masked top-1 accuracy, clean tokens"),
    "clean_top5_accuracy": ("top_5_accuracy", "Masked top-5 accuracy, clean tokens"),
    "clean_cross_entropy": ("cross_entropy", "Masked cross-entropy, clean tokens (nats per token)"),
    "top1_accuracy": ("accuracy", "Masked top-1 accuracy"),
    "top5_accuracy": ("top_5_accuracy", "Masked top-5 accuracy"),
    "cross_entropy": ("cross_entropy", "Masked cross-entropy (nats per token)"),
    "bits_per_byte": ("bits_per_byte", "Masked bits per byte"),
}
"""Score -> the hub's metric type and the name that people read."""

TASK_TYPES = {
    "classification": "text-classification",
    "regression": "text-classification",
    "token_classification": "token-classification",
    "question_answering": "question-answering",
}
"""Kind -> the hub's task type; others are fill-mask."""

METRIC_TYPES = {"matthews_correlation": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr"}
"""Metric -> the hub's name of it, where it has another."""


def model_index(records: Sequence[EvaluationRecord]) -> list[EvalResult]:
    """Return all scores in tables, and those on held-out text, as `model-index` has them; in the metrics' own units."""
    results = []
    for record in records:
        if record.task == "held_out":
            results += _held_out(record)
        elif record.main_metric is not None:
            results += _of_task(record)
    return results


def _held_out(record: EvaluationRecord) -> Iterator[EvalResult]:
    for score, (metric_type, name) in HELD_OUT_METRICS.items():
        if score in record.scores:
            yield EvalResult(
                task_type="fill-mask",
                task_name="Masked language modelling",
                dataset_type="held-out",
                dataset_name="Held-out documents of the training corpus",
                dataset_split="held_out",
                metric_type=metric_type,
                metric_name=name,
                metric_value=round(record.scores[score], 4),
            )


def _of_task(record: EvaluationRecord) -> Iterator[EvalResult]:
    dataset, configuration = hub_dataset(record) or (to_one_line(record.task), None)
    title = to_one_line(title_of(record))
    for metric, value in record.scores.items():
        if metric.startswith(("num_", "sum_")) or not math.isfinite(value):
            continue
        yield EvalResult(
            task_type=TASK_TYPES.get(record.kind, "fill-mask"),
            task_name=to_one_line(label_of(record.kind)) or title,
            dataset_type=dataset,
            dataset_name=title,
            dataset_config=configuration,
            metric_type=METRIC_TYPES.get(metric, to_one_line(metric)),
            metric_name=f"{to_one_line(label_of(metric))}, {_seeds_in_words(record)}",
            metric_value=round(value, 4),
        )


def hub_dataset(record: EvaluationRecord) -> tuple[str, str | None] | None:
    """Return the name that a task's data has on the hub and its configuration, from the task's settings.

    None if the settings know no such name. The files that were read may have come from elsewhere.
    """
    name = next(_hub_names(record.settings), None)
    if name is None or not re.fullmatch(r"[\w.-]+(/[\w.-]+){0,2}(@[\w.-]+)?", name):
        return None
    parts = name.partition("@")[0].split("/")
    return "/".join(parts[:2]), parts[2] if len(parts) > 2 else None


def _hub_names(settings: Any) -> Iterator[str]:
    """Yield every value of a key `hub`, however deep it stands."""
    if isinstance(settings, dict):
        if isinstance(settings.get("hub"), str):
            yield settings["hub"]
        for value in settings.values():
            yield from _hub_names(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from _hub_names(value)


def write_eval_results(records: Sequence[EvaluationRecord], model_folder: Path) -> list[Path]:
    """Write `.eval_results/<data set>.yaml` for the tasks whose data the hub has, and remove those without a score now.

    A file without our first line is somebody's own and left alone.

    Returns:
        What was written.
    """
    folder = model_folder / ".eval_results"
    entries: dict[str, list[EvalResultEntry]] = {}
    for record in records:
        dataset = hub_dataset(record)
        if dataset is not None and math.isfinite(record.scores.get(str(record.main_metric), math.nan)):
            file_name = dataset[0].replace("/", "--") + ".yaml"
            entries.setdefault(file_name, []).append(_entry(record, *dataset))
    written = []
    for old in sorted(folder.glob("*.yaml")) if folder.is_dir() else []:
        if old.name not in entries and _is_ours(old):
            old.unlink()
    for name, of_dataset in entries.items():
        if not (folder / name).exists() or _is_ours(folder / name):
            text = yaml.safe_dump(eval_result_entries_to_yaml(of_dataset), sort_keys=False, allow_unicode=True)
            write_sealed(folder / name, MARK + text)
            written.append(folder / name)
    return written


def _is_ours(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(MARK)) == MARK.encode()


def _entry(record: EvaluationRecord, dataset: str, configuration: str | None) -> EvalResultEntry:
    metric = str(record.main_metric)
    score = format_value(metric, record.scores[metric], record.deviations.get(metric))
    files = ", ".join(sorted(record.data_sha256)[:3]) + (" and more" if len(record.data_sha256) > 3 else "")
    notes = [
        f"{label_of(metric)} {score}, {_seeds_in_words(record)}; read from {files or 'unnamed files'}",
        *record.notes,
    ]
    return EvalResultEntry(
        dataset_id=dataset,
        task_id=configuration or "default",
        value=round(record.scores[metric], 4),
        notes=to_one_line("; ".join(notes)),
    )


def _seeds_in_words(record: EvaluationRecord) -> str:
    return f"mean of {len(record.seeds)} seeds" if len(record.seeds) > 1 else "one seed"


def to_one_line(text: str) -> str:
    """Return foreign text as one harmless line."""
    return " ".join(clean(text).split())
