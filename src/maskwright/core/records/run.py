"""What the stages leave on disk for one another: the paths in a run folder, and the records there.

Stages meet here and never by import: a report can be redrawn and a model evaluated years later. Every record is a
strict pydantic model written as JSON; unknown keys are errors, so a record of another version is noticed.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from maskwright.core.errors import CheckpointError
from maskwright.core.records.base import Record


@dataclass(frozen=True)
class RunFolder:
    """The paths in a run folder."""

    path: Path

    @property
    def run_record(self) -> Path:
        """`RunRecord`: what was asked, on what machine, with what result."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: a training step ("loss" ...) or a probe ("held_out_loss" ...)."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folders `step-000500/`."""
        return self.path / "checkpoints"

    def phase(self, index: int) -> Path:
        """What the objective of a phase, counted from 0, made before its first step; named from 1."""
        return self.path / "phases" / str(index + 1)

    @property
    def model(self) -> Path:
        """The exported Hugging Face folder."""
        return self.path / "model"

    @property
    def reader(self) -> Path:
        """What fills masks beyond the exported encoder, where that does not do it without help."""
        return self.path / "reader.safetensors"

    @property
    def word_checkpoints(self) -> Path:
        """Hugging Face folders `chck_1M` and so on, by words seen."""
        return self.path / "babylm"

    @property
    def evaluation(self) -> Path:
        """One `EvaluationRecord` a task, `<task>.json`."""
        return self.path / "evaluation"

    @property
    def comparisons(self) -> Path:
        """One `ModelComparisonRecord` for each other model."""
        return self.evaluation / "against"

    @property
    def report(self) -> Path:
        """The self-contained report."""
        return self.path / "report.html"


# --- the prepared corpus -----------------------------------------------------------------------------------------


# --- the run -----------------------------------------------------------------------------------------------------


class PhaseRecord(Record):
    """One phase as planned."""

    objective: str
    sequence_length: int
    num_steps: int = Field(description="optimizer steps; a budget in hours was turned into steps by measuring")
    step_tokens: int | None = Field(default=None, description="tokens of a step; None: those of the recipe's batch")
    flops_per_token: float = Field(description="training, forward and backward")
    fills_masks: Literal["encoder", "reader", "no"] = Field(
        default="encoder",
        description="what can fill masks afterwards: the encoder, a reader that runs beyond it, or nothing",
    )
    trains_vocabulary_head: bool = Field(default=True, description="whether the phase learns to predict tokens")

    @model_validator(mode="before")
    @classmethod
    def _read_version_1(cls, value: Any) -> Any:
        """Read what earlier versions called `masks_at_input`: whether the encoder read the mask token."""
        if isinstance(value, dict) and "masks_at_input" in value:
            value = dict(value)
            reads_masks, trains_head = value.pop("masks_at_input"), value.get("trains_vocabulary_head", True)
            value["fills_masks"] = ("encoder" if reads_masks else "reader") if trains_head else "no"
        return value


def totals_of(phases: Sequence[PhaseRecord]) -> dict[str, Any]:
    """Return steps, tokens and FLOPs of all phases, by the names that they have in a `PlanRecord`."""
    tokens = [phase.num_steps * (phase.step_tokens or 0) for phase in phases]
    return {
        "total_flops": sum(each * phase.flops_per_token for each, phase in zip(tokens, phases, strict=True)),
        "total_tokens": sum(tokens),
        "total_steps": sum(phase.num_steps for phase in phases),
    }


class CourseChange(Record):
    """The phases of a run with a budget in hours became longer or shorter, since the machine's speed changed."""

    step: int = Field(description="from which this holds, counted from 0")
    phase_steps: list[int] = Field(description="steps of each phase, those before included")
    seconds: float = Field(description="training time when it was decided")


class PlanRecord(Record):
    """What was predicted before the run; the formula of the FLOPs is in `encoders/flops.py`."""

    num_parameters: int = Field(description="of the last phase's model; version 0.1 counted the heads of all phases")
    num_body_parameters: int = Field(description="parameters of the blocks: what every token passes through")
    phases: list[PhaseRecord]
    total_flops: float
    total_tokens: int
    total_steps: int
    total_words: int = Field(default=0, description="white-space words that will be seen, repetitions counted")
    probe_strides: dict[str, int] = Field(
        default_factory=dict,
        description="probe -> of how many occasions it measures one, to keep to probes.max_share; 0: none; absent: all",
    )

    keeps_hours: bool = Field(
        default=False, description="whether phases change their length on the way, so that hours are kept"
    )
    planned_steps: list[int] = Field(
        default_factory=list, description="steps of each phase before `changes`, where there are some"
    )
    changes: list[CourseChange] = Field(
        default_factory=list, description="of the lengths of phases, to keep to the hours; `phases` has the last"
    )

    def changed(self, change: CourseChange) -> "PlanRecord":
        """Return the plan after a change, with its totals."""
        phases = [
            phase.model_copy(update={"num_steps": steps})
            for phase, steps in zip(self.phases, change.phase_steps, strict=True)
        ]
        totals = totals_of(phases)
        news = {
            "phases": phases,
            "planned_steps": self.planned_steps or [phase.num_steps for phase in self.phases],
            "changes": [*self.changes, change],
            "total_words": round(self.total_words * totals["total_tokens"] / self.total_tokens),
        }
        return self.model_copy(update=news | totals)

    def phase_of(self, step: int) -> int:
        """Return the index of the phase in which a run came to `step` steps; of the first before there was a step."""
        ends = itertools.accumulate(phase.num_steps for phase in self.phases)
        return next((phase for phase, end in enumerate(ends) if step <= end), len(self.phases) - 1)


class SettingChange(Record):
    """A setting of the recipe that has another value from a step on."""

    step: int = Field(description="the first step made with it, counted from 0")
    key: str = Field(description='dotted, such as "optimizer.learning_rate"')
    value: float | None


class EngineRecord(Record):
    """What was decided about this machine at start-up."""

    device: str
    dtype: str
    attention: str
    compiled: bool
    num_ranks: int
    cross_entropy: Literal["whole", "own", "torch"] = Field(
        default="own", description="how large logits become a loss: never large, in pieces by us, or by torch"
    )
    matmul_flops_per_second: float = Field(description="measured, in `dtype`; utilisation is relative to it")


class ResultRecord(Record):
    """Where training ended."""

    step: int
    num_tokens: int
    seconds: float = Field(description="time in training steps, evaluation and saving left out")
    probe_seconds: float = Field(default=0.0, description="time in probes")
    final_loss: float | None
    best_step: int | None = None
    best_held_out_loss: float | None = None
    stopped_early: bool = False
    metrics_sha256: str | None = Field(default=None, description="of the lines of metrics.jsonl up to `step`")
    metrics_altered_until: int | None = Field(
        default=None, description="step after which the run was resumed with other lines than it had written up to it"
    )
    held_out_cross_entropy: float | None = Field(
        default=None, description="nats per hidden token of held-out text, of the exported model, if it fills masks"
    )
    constant_cross_entropy: float | None = Field(
        default=None, description="likewise, of an answer that is always the frequencies of the training text"
    )

    @property
    def failure(self) -> str | None:
        """A sentence if the model is no better than a constant answer; None if it is, or was not measured."""
        ours, constant = self.held_out_cross_entropy, self.constant_cross_entropy
        if ours is None or constant is None or ours < constant:
            return None
        return (
            f"Diverged, or learned nothing: on held-out text the model has a cross-entropy of {ours:,.3f} nats per "
            f"hidden token, and a constant answer, the token frequencies of the training text, has {constant:,.3f}."
        )


class EnergyRecord(Record):
    """The electrical energy that training used."""

    kwh: float
    kg_co2: float
    how: Literal["measured by codecarbon", "estimated"]
    seconds: float = Field(description="time that it covers, with probes and saving; sessions that were killed lack")
    assumptions: list[str] = Field(description="in words: power, carbon intensity and their sources")


class ExportRecord(Record):
    """A verified export."""

    family: str
    architecture: str = Field(description="the Hugging Face class, such as ModernBertForMaskedLM")
    max_logit_difference: float = Field(description="float32, ours against transformers, on a sample")
    num_compared_logits: int
    transformers_version: str
    step: int | None = Field(
        default=None, description="of the run, after which the exported checkpoint was saved; version 0.1 did not say"
    )
    sums_sha256: str | None = Field(
        default=None, description="of SHA256SUMS in the folder; None: written before there were checksums"
    )
    reader_sha256: str | None = Field(
        default=None, description="of reader.safetensors, where more than the encoder fills masks; version 0.1 had none"
    )


class RunRecord(Record):
    """`run.json`: everything needed to understand a run, and to do it again."""

    format_version: Literal[1] = 1
    name: str
    created: str = Field(description="UTC, ISO 8601")
    status: Literal["running", "interrupted", "failed", "finished"]
    recipe: dict[str, Any] = Field(description="the recipe with every default filled in")
    recipe_folder: str | None = Field(default=None, description="where plug-ins of the user's own are looked for")
    corpus: str = Field(description="folder of the prepared corpus")
    corpus_sha256: str = Field(description="its manifest's `content_sha256`")
    environment: dict[str, str] = Field(description="versions, machine, commit: `core.hardware.environment()`")
    citations: dict[str, str] = Field(description="what was used -> its source")
    continues_weights: bool = Field(
        default=False, description="whether it began with the weights of another model (--from), its first checkpoint"
    )
    has_checksums: bool = Field(
        default=False, description="whether all that the run wrote has a checksum; earlier versions wrote some without"
    )
    plan: PlanRecord
    engine: EngineRecord
    setting_changes: list[SettingChange] = Field(
        default_factory=list,
        description="what `--resume --set` changed on the way; `recipe` is what the run began with",
    )
    result: ResultRecord | None = None
    energy: EnergyRecord | None = None
    export: ExportRecord | None = None

    @property
    def exported_phase(self) -> int:
        """Index of the phase that the exported model comes from; of the last if the record does not say."""
        step = self.export.step if self.export else None
        return len(self.plan.phases) - 1 if step is None else self.plan.phase_of(step)


def record_of(path: Path) -> RunRecord:
    """Read the record of a run folder.

    Raises:
        CheckpointError: it is no run folder, or its record is damaged.
    """
    run = RunFolder(path)
    if not run.run_record.exists():
        problem = "holds no run" if path.exists() else "does not exist"
        raise CheckpointError(f"{path} {problem}", "a folder that `maskwright train` made")
    return RunRecord.read(run.run_record)


def run_of_model(folder: Path) -> RunFolder | None:
    """Return the run that a model folder lies in; None if it lies elsewhere."""
    folder = folder.resolve()
    run = RunFolder(folder.parent)
    return run if folder.name == run.model.name and run.run_record.exists() else None


# --- the evaluation ----------------------------------------------------------------------------------------------
