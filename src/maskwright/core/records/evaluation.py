"""What an evaluation leaves on disk: scores of a model, and two models side by side."""

from itertools import groupby
from typing import Any, Literal

from pydantic import Field

from maskwright.core.records.base import Record


class SeedRecord(Record):
    """One of several runs of a task that differ by the seed alone."""

    seed: int
    scores: dict[str, float]
    settings: dict[str, Any] = Field(default_factory=dict, description="what this run chose, such as its best epoch")
    seconds: float


class TableRecord(Record):
    """The table that a task is a row of, such as GLUE."""

    name: str
    title: str
    tasks: dict[str, str] = Field(description="all rows in order, task -> title; also those that were not scored")


class EvaluationRecord(Record):
    """`evaluation/<task>.json`: the scores of one task."""

    format_version: Literal[1] = 1
    task: str
    title: str = Field(default="", description="what people call the task")
    kind: str = Field(default="", description="the plug-in that scored it, such as minimal_pairs")
    citation: str = ""
    table: TableRecord | None = Field(default=None, description="the suite it was scored for, if any")
    model: str = Field(description="the model folder, or its name on the hub")
    model_sha256: str = Field(description="checksum of model.safetensors")
    settings: dict[str, Any]
    main_metric: str | None = Field(default=None, description="the score that stands in tables")
    scores: dict[str, float] = Field(
        description="by metric, the mean over the seeds; units in the metric's name or in the docs of the task"
    )
    deviations: dict[str, float] = Field(
        default_factory=dict, description="sample standard deviation (ddof 1) over the seeds; empty for one seed"
    )
    intervals: dict[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="95 % bootstrap interval by metric, over the items and, from three seeds on, over the seeds",
    )
    groups: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="scores of parts of the data, such as a phenomenon; means over the seeds"
    )
    seeds: list[SeedRecord] = Field(default_factory=list)
    baselines: dict[str, dict[str, float]] = Field(default_factory=dict, description="baseline -> metric -> value")
    examples: list[dict[str, Any]] = Field(
        default_factory=list, description="what helps to see what the scores mean; those of one group stand together"
    )
    notes: list[str] = Field(default_factory=list, description="what a reader must know to judge the scores, in words")
    data_sha256: dict[str, str] = Field(default_factory=dict)
    environment: dict[str, str]
    seconds: float

    def best_baseline(self, is_lower_better: bool) -> tuple[str, float] | None:
        """Return the strongest baseline by the main metric, its name and score; None if there is none."""
        metric = self.main_metric
        found = [(name, scores[metric]) for name, scores in self.baselines.items() if metric in scores]
        best = min if is_lower_better else max
        return best(found, key=lambda each: each[1], default=None)

    @property
    def examples_by_group(self) -> list[tuple[dict[str, Any] | None, list[dict[str, Any]]]]:
        """The examples of each group; without groups, as before version 0.3, all of them and None."""
        groups = groupby(self.examples, lambda example: example.get("group"))
        return [(group, list(members)) for group, members in groups]


class ComparisonRow(Record):
    """One task, two models."""

    task: str
    title: str
    metric: str
    model_mean: float
    model_deviation: float | None = Field(
        description="sample standard deviation (ddof 1) over seeds; None for one seed"
    )
    other_mean: float
    other_deviation: float | None
    difference: float = Field(description="model - other")
    interval: tuple[float, float] = Field(description="95 % of the difference, paired bootstrap over items and seeds")
    p_items: float = Field(description="two-sided, paired bootstrap over items")
    p_seeds: float | None = Field(description="two-sided, t-test over the seeds; None if they can't tell")
    p_corrected: float = Field(description="the larger of the two after Holm's correction for the number of rows")
    num_items: int
    num_seeds: int
    verdict: str = Field(description="in words: which is better, or that there is no evidence of a difference")


class ModelComparisonRecord(Record):
    """`evaluation/against/<other>.json`: two models side by side on the same items."""

    format_version: Literal[1] = 1
    model: str
    other: str
    model_sha256: str
    other_sha256: str
    num_resamples: int
    seed: int
    rows: list[ComparisonRow]
    notes: list[str] = Field(default_factory=list)
