"""What a comparison of recipes leaves on disk: `comparison.json`, from which its page is drawn."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from maskwright.core.records.base import Record


class Measure(Record):
    """One thing that all arms are measured by: a column of the table."""

    name: str = Field(description="of the task; `fine_tuning_average` is no task")
    title: str
    metric: str
    is_lower_better: bool
    is_fine_tuned: bool = False


class MeanScore(Record):
    """The score of an arm by one measure."""

    mean: float
    deviation: float | None = Field(description="sample standard deviation (ddof 1) over the runs; None for one run")
    num_runs: int


class CurvePoint(Record):
    """What a probe measured during training, and what the run had cost until then."""

    tokens: int
    flops: float
    seconds: float
    cross_entropy: float = Field(description="held out, in nats per scored token")


class ArmRun(Record):
    """One seed of an arm."""

    seed: int
    folder: str = Field(description="of the run; relative to the comparison's folder where it lies inside")
    problem: str | None = Field(default=None, description="why it was not finished or not scored; None: all is well")
    num_steps: int | None = None
    num_tokens: int | None = Field(default=None, description="seen, without padding")
    num_parameters: int | None = None
    flops: float | None = Field(default=None, description="of the steps made, by the formula that `plan` shows")
    seconds: float | None = Field(default=None, description="in training steps; evaluating and saving left out")
    kwh: float | None = None
    is_stopped_early: bool = False
    machine: str = Field(default="", description="processor or GPU, precision, attention, compiled or not")
    scores: dict[str, float] = Field(default_factory=dict, description="by measure")
    curve: list[CurvePoint] = Field(default_factory=list, description="by step; empty without probes of held-out text")


class ArmRecord(Record):
    """One of the recipes that are compared."""

    name: str
    source: str = Field(description="the recipe's file; or that the runs were trained before")
    settings: list[str] = Field(default_factory=list, description="what replaces the recipe's own, as after --set")
    differing: dict[str, Any] = Field(
        default_factory=dict, description="resolved keys that are not the same in all arms; absent keys have no value"
    )
    runs: list[ArmRun]
    scores: dict[str, MeanScore] = Field(default_factory=dict, description="by measure")


class ArmDifference(Record):
    """An arm against the baseline, by one measure."""

    arm: str
    measure: str
    difference: float = Field(description="arm - baseline, over the seeds that both have")
    interval: tuple[float, float] | None = Field(
        description="95 %, paired bootstrap over items and, from three seeds on, seeds; None for averages"
    )
    p_items: float | None = Field(description="two-sided, paired bootstrap over items; None for averages")
    p_seeds: float | None = Field(description="two-sided, t-test over seeds; None if they can't tell")
    p_corrected: float | None = Field(
        description="the larger of the two after Holm's correction for all rows; None if there is no test"
    )
    num_items: int | None
    num_seeds: int
    is_paired: bool = Field(description="whether the seeds are the same, and so text and order")
    verdict: Literal["better", "worse", "no evidence of a difference", "not informative", "no test"] = Field(
        description="not informative: the baseline arm is no better than a guesser, such as a bag of words"
    )


class RecipeComparisonRecord(Record):
    """`comparison.json`: several recipes, several seeds, one budget, one table."""

    format_version: Literal[1] = 1
    title: str
    command: str = Field(description="what makes it again")
    baseline: str
    budget: str = Field(description="in words")
    corpus: str
    corpus_sha256: str
    evaluation_seed: int = Field(description="of what is hidden, drawn and resampled; the same for all runs")
    arms: list[ArmRecord]
    measures: list[Measure]
    differences: list[ArmDifference]
    num_resamples: int
    notes: list[str] = Field(description="what a reader must know to judge the table, in words")
    environment: dict[str, str]


def comparison_path(folder: Path) -> Path:
    """Return where the `RecipeComparisonRecord` of a folder lies."""
    return folder / "comparison.json"


def comparison_page_path(folder: Path) -> Path:
    """Return where the page of a comparison lies."""
    return folder / "compare.html"
