"""What `maskwright tune` leaves on disk: `tuning.json`, written after every trial, so that the search can go on."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from maskwright.core.records.base import Record


class TrialRecord(Record):
    """One short run, from fresh weights to the end of its own learning-rate schedule."""

    learning_rate: float = Field(description="the optimizer's; phases with rates of their own are scaled along")
    batch_tokens: int = Field(description="the recipe's batch; phases with batches of their own are scaled along")
    rung: int = Field(description="counted from 0; only trials of one rung have equal budgets and can be compared")
    num_steps: int
    num_tokens: int = Field(description="that the trial was given, padding counted, also if it ended early")
    held_out_loss: float | None = Field(description="of the objective's own terms, at the end; None: it diverged")

    @property
    def candidate(self) -> tuple[float, int]:
        """What was tried: rate and batch."""
        return self.learning_rate, self.batch_tokens


class TuningRecord(Record):
    """`tuning.json`: what was searched, at which budgets, what came of every trial, and the best."""

    format_version: Literal[1] = 1
    name: str = Field(description="of the recipe")
    status: Literal["running", "finished"]
    recipe: dict[str, Any] = Field(description="the recipe with every default filled in")
    start_from: str | None = Field(description="the model that every trial continues from; None: fresh weights")
    corpus: str = Field(default="", description="folder of the prepared corpus; empty until it is there")
    corpus_sha256: str = Field(default="", description="its manifest's `content_sha256`")
    share: float = Field(description="of the budget, the most that all trials may use together")
    budget_tokens: int = Field(description="of the recipe; hours and FLOPs as `maskwright plan` foresees them")
    allowed_tokens: int = Field(description="share times budget")
    spent_tokens: int = Field(default=0, description="given to trials")
    dtype: Literal["bfloat16", "float32"] = Field(description="of matrix products, the same for all trials")
    learning_rates: list[float] = Field(description="of the grid, ascending; the search may go beyond it")
    batches: list[int] = Field(description="of the grid, in tokens, ascending")
    rung_tokens: list[int] = Field(description="what a trial of each rung is given")
    rung_trials: list[int] = Field(description="how many trials go into each rung")
    trials: list[TrialRecord] = Field(default_factory=list, description="in the order in which they were made")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="the best, by the recipe's dotted keys, as for --set"
    )
    notes: list[str] = Field(default_factory=list, description="what a reader must know to judge the result")
    environment: dict[str, str]

    def rung(self, number: int) -> list[TrialRecord]:
        """Return the trials of a rung, the best first; those that diverged are last."""
        trials = [trial for trial in self.trials if trial.rung == number]
        return sorted(trials, key=lambda trial: (trial.held_out_loss is None, trial.held_out_loss))

    @property
    def best(self) -> TrialRecord:
        """The best trial of the last rung that was begun."""
        return self.rung(max(trial.rung for trial in self.trials))[0]


def tuning_path(folder: Path) -> Path:
    """Return where the `TuningRecord` of a search lies."""
    return folder / "tuning.json"


def valley_path(folder: Path) -> Path:
    """Return where the picture of a search lies: the loss over the learning rate, a line for each batch."""
    return folder / "valley.svg"
