"""Reads what the stages left in a run folder. What an unfinished run lacks is missing here too."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.core.errors import CheckpointError
from maskwright.core.records.corpus import CorpusManifest
from maskwright.core.records.evaluation import EvaluationRecord, ModelComparisonRecord
from maskwright.core.records.masked_example import FILE, MaskedExample
from maskwright.core.records.metric_lines import lines_until, sha256_of_lines
from maskwright.core.records.run import RunFolder, RunRecord

PROBE_PREFIXES = ("held_out_", "blimp_")
"""Begin the names of what probes measured during training."""


@dataclass(frozen=True)
class Story:
    """Everything that reports show of a run.

    Attributes:
        folder: where the run is.
        record: what was asked, decided and reached.
        training: metrics of training steps, by step.
        probes: metrics of probes, by step.
        num_unreadable_lines: lines of `metrics.jsonl` that are no JSON objects.
        corpus: the manifest of the corpus; None if it is not available.
        corpus_note: why `corpus` is None.
        unigram_counts_V: int64 [V], of the train split; None without the corpus.
        evaluations: records by task, sorted.
        comparisons: with other models, by their names, sorted.
    """

    folder: RunFolder
    record: RunRecord
    training: list[dict[str, Any]]
    probes: list[dict[str, Any]]
    num_unreadable_lines: int
    corpus: CorpusManifest | None
    corpus_note: str
    unigram_counts_V: np.ndarray | None
    evaluations: dict[str, EvaluationRecord]
    comparisons: list[ModelComparisonRecord]

    @property
    def cautions(self) -> list[str]:
        """Sentences that a reader must know before anything else."""
        changes = [
            f"From step {change.step + 1:,} on, {change.key} was {change.value}."
            for change in self.record.setting_changes
        ]
        result = self.record.result
        if result is not None and self.record.status == "finished" and result.metrics_sha256 is not None:
            lines = lines_until(self.folder.metrics, result.step)
            if sha256_of_lines(lines) != result.metrics_sha256:
                changes.append("The file metrics.jsonl was altered after the training: its curves may be wrong.")
        if result is not None and (step := result.metrics_altered_until) is not None:
            changes.append(f"The file metrics.jsonl was altered: its curves may be wrong up to step {step:,}.")
        failure = result.failure if result else None
        return [*([failure] if failure else []), *changes]

    @property
    def unranked_records(self) -> dict[str, EvaluationRecord]:
        """Scores without a main metric: they are shown with their baselines and in no table of tasks."""
        return {task: record for task, record in self.evaluations.items() if record.main_metric is None}

    @property
    def held_out(self) -> EvaluationRecord | None:
        """The scores on held-out text."""
        return self.evaluations.get("held_out")

    @property
    def masked_examples(self) -> list[MaskedExample]:
        """What each phase hid in a row of text, of the phases that were finished."""
        paths = (self.folder.phase(number) / FILE for number in range(len(self.record.plan.phases)))
        return [MaskedExample.read(path) for path in paths if path.exists()]

    @property
    def num_tokens(self) -> int | None:
        """Tokens seen in training, as far as the run came."""
        if self.record.result is not None:
            return self.record.result.num_tokens
        return int(self.training[-1]["tokens"]) if self.training else None

    @property
    def seconds(self) -> float | None:
        """Time in training steps, as far as the run came."""
        if self.record.result is not None:
            return self.record.result.seconds
        return float(self.training[-1]["seconds"]) if self.training else None

    @property
    def step(self) -> int | None:
        """The last training step."""
        if self.record.result is not None:
            return self.record.result.step
        return int(self.training[-1]["step"]) if self.training else None

    @property
    def tokens_per_second(self) -> float | None:
        """Mean over the training time."""
        return self.num_tokens / self.seconds if self.num_tokens and self.seconds else None

    @property
    def utilisation(self) -> float | None:
        """Mean share of the measured matmul rate, over the training steps in the log."""
        values = [line["utilisation"] for line in self.training if line.get("utilisation") is not None]
        return float(np.mean(values)) if values else None

    @property
    def dropped(self) -> list[tuple[str, int]]:
        """What was left out of the text, by reason."""
        return [(reason, count) for reason, count in self.corpus.dropped.items() if count] if self.corpus else []

    @property
    def description(self) -> str:
        """The recipe's sentence about the run."""
        return str(self.record.recipe.get("description") or "")

    def objective_settings(self, phase: int) -> list[tuple[str, str]]:
        """Return the settings of a phase's objective as (name, value)."""
        phases = self.record.recipe.get("phases") or []
        objective = phases[phase].get("objective", {}) if phase < len(phases) else {}
        return [(name, value) for name, value in flatten_settings(objective) if name != "name"]


def flatten_settings(section: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Return the leaves of nested settings as (dotted name, value), those that are not set left out."""
    if isinstance(section, dict):
        return [
            leaf
            for name, value in section.items()
            for leaf in flatten_settings(value, f"{prefix}.{name}" if prefix else name)
        ]
    return [] if section is None else [(prefix, str(section))]


def gather(run: Path) -> Story:
    """Read a run folder, finished or not.

    Raises:
        CheckpointError: it is not a run folder, or a record in it is damaged.
    """
    folder = RunFolder(run)
    if not folder.run_record.exists():
        raise CheckpointError(f"{run} is not a run folder: it has no run.json", "a folder that `train --run` made")
    record = RunRecord.read(folder.run_record)
    training, probes, num_unreadable_lines = read_metrics(folder.metrics)
    corpus, note = read_corpus(record)
    counts_path = Path(record.corpus) / "unigram_counts.npy"
    evaluations = [EvaluationRecord.read(path) for path in sorted(folder.evaluation.glob("*.json"))]
    return Story(
        folder=folder,
        record=record,
        training=training,
        probes=probes,
        num_unreadable_lines=num_unreadable_lines,
        corpus=corpus,
        corpus_note=note,
        unigram_counts_V=np.load(counts_path, allow_pickle=False) if corpus and counts_path.exists() else None,
        evaluations={evaluation.task: evaluation for evaluation in evaluations},
        comparisons=[ModelComparisonRecord.read(path) for path in sorted(folder.comparisons.glob("*.json"))],
    )


def read_corpus(record: RunRecord) -> tuple[CorpusManifest | None, str]:
    """Return the manifest of the run's corpus, or None and why."""
    path = Path(record.corpus) / "manifest.json"
    if not path.exists():
        return None, f"The prepared corpus {record.corpus} is not on this machine."
    try:
        manifest = CorpusManifest.read(path)
    except CheckpointError:
        return None, f"The manifest of the corpus in {record.corpus} is damaged."
    if manifest.content_sha256 != record.corpus_sha256:
        return None, f"The corpus in {record.corpus} is not the one of this run any more."
    return manifest, ""


def has_number(line: dict[str, Any], name: str) -> bool:
    """Return whether a line of `metrics.jsonl` holds a finite number under `name`."""
    value = line.get(name)
    return isinstance(value, int | float) and math.isfinite(value)


def read_metrics(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """Read `metrics.jsonl`.

    A run that was killed may leave half a line, and one that was resumed repeats the steps since its checkpoint; of
    several lines for one step the last counts.

    Returns:
        Training lines, probe lines (both by step) and the number of unreadable lines.
    """
    training: dict[int, dict[str, Any]] = {}
    probes: dict[int, dict[str, Any]] = {}
    num_unreadable = 0
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    for line in lines:
        try:
            values = json.loads(line)
            step = int(values["step"])
        except (ValueError, KeyError, TypeError):
            num_unreadable += 1
            continue
        kind = probes if any(name.startswith(PROBE_PREFIXES) for name in values) else training
        kind[step] = values
    return (
        [training[step] for step in sorted(training)],
        [probes[step] for step in sorted(probes)],
        num_unreadable,
    )
