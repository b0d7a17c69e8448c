"""What the stages leave on disk for one another: the places in a run folder and the records in them.

Stages meet here and never by import: a report can be redrawn and a model evaluated years later. Every record is a
strict pydantic model written as JSON; unknown keys are errors, so a record of another version is noticed.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from maskwright.core.errors import CheckpointError
from maskwright.core.files import write_text_atomically


@dataclass(frozen=True)
class RunFolder:
    """The places in a run folder."""

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
    def word_checkpoints(self) -> Path:
        """Hugging Face folders `chck_1M` and so on, by words seen."""
        return self.path / "babylm"

    @property
    def evaluation(self) -> Path:
        """One `EvaluationRecord` a task, `<task>.json`."""
        return self.path / "evaluation"

    @property
    def comparisons(self) -> Path:
        """One `ComparisonRecord` for each other model."""
        return self.evaluation / "against"

    @property
    def report(self) -> Path:
        """The self-contained report."""
        return self.path / "report.html"


class Record(BaseModel):
    """A record on disk: strict, so that damage and other versions are noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def write(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_text_atomically(path, json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record.

        Raises:
            CheckpointError: the file is missing, damaged or of another version; the message names the first problem.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} does not exist", f"a {cls.__name__}") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise CheckpointError(
                f"{path}: {place}: {first['msg']}", f"a {cls.__name__} written by this version of maskwright"
            ) from error


# --- the prepared corpus -----------------------------------------------------------------------------------------


class ShardRecord(Record):
    """One shard's files: `<name>.tokens`, `<name>.documents`, `<name>.words` (`corpus/shards.py` has the format)."""

    name: str
    num_documents: int
    num_tokens: int
    sha256: dict[str, str] = Field(description="checksum by file name")
    num_bytes: dict[str, int] = Field(description="size by file name")


class SplitRecord(Record):
    """One part of a corpus, "train" or "held_out"."""

    shards: list[ShardRecord]
    num_documents: int
    num_words: int
    num_tokens: int
    num_text_bytes: int


class TokenizerAudit(Record):
    """How well a tokenizer fits the text, measured on held-out documents."""

    kind: str = Field(description="unigram, wordpiece, bpe, characters, or the class of an existing tokenizer")
    vocabulary_size: int
    num_sampled_documents: int
    unknown_rate: float = Field(description="unknown tokens / tokens")
    tokens_per_word: float = Field(description="fertility: tokens / white-space words")
    characters_per_token: float
    character_coverage: float = Field(description="share of the text's characters inside known tokens")
    sample_text: str = Field(description="one short piece of the text")
    sample_tokens: list[str] = Field(description="the tokens of `sample_text`")


class CorpusManifest(Record):
    """`manifest.json` of a prepared corpus."""

    format_version: Literal[1] = 1
    created: str = Field(description="UTC, ISO 8601")
    key: str = Field(default="", description="changes with settings, seed and files: `corpus.prepare.preparation_key`")
    source: dict[str, Any] = Field(description="the recipe's data section as it was resolved")
    files: list[str] = Field(description="the source's files (or its name, for a source without files)")
    tokenizer_sha256: str
    tokenizer_settings: dict[str, Any]
    token_dtype: Literal["uint16", "uint32"]
    has_word_starts: bool
    splits: dict[str, SplitRecord]
    dropped: dict[str, int] = Field(description="documents or bytes left out, by reason, such as 'empty'")
    decontamination: dict[str, int] | None = None
    audit: TokenizerAudit
    seconds: float
    sha256_of_counts: str = Field(description="checksum of unigram_counts.npy: int64 [V], counts over the train split")

    @property
    def content_sha256(self) -> str:
        """Checksum of tokenizer and tokens: the same text prepared again, at another time or place, has the same."""
        content = self.model_dump(include={"format_version", "tokenizer_sha256", "splits", "sha256_of_counts"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# --- the run -----------------------------------------------------------------------------------------------------


class PhaseRecord(Record):
    """One phase as planned."""

    objective: str
    sequence_length: int
    num_steps: int = Field(description="optimizer steps; a budget in hours was turned into steps by measuring")
    flops_per_token: float = Field(description="training, forward and backward")
    masks_at_input: bool = Field(default=True, description="whether the encoder reads the mask token in this phase")
    trains_vocabulary_head: bool = Field(default=True, description="whether the phase learns to predict tokens")


class PlanRecord(Record):
    """What was foreseen before the run; the formula of the FLOPs is in `encoders/flops.py`."""

    num_parameters: int
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


class EnergyRecord(Record):
    """What training took from the socket."""

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
    plan: PlanRecord
    engine: EngineRecord
    result: ResultRecord | None = None
    energy: EnergyRecord | None = None
    export: ExportRecord | None = None


# --- the evaluation ----------------------------------------------------------------------------------------------


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
    examples: list[dict[str, Any]] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list, description="what a reader must know to judge the scores, in words")
    data_sha256: dict[str, str] = Field(default_factory=dict)
    environment: dict[str, str]
    seconds: float


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
    p_seeds: float | None = Field(description="two-sided, t-test over the seeds; None where they can't tell")
    p_corrected: float = Field(description="the larger of the two after Holm's correction for the number of rows")
    num_items: int
    num_seeds: int
    verdict: str = Field(description="in words: which is better, or that there is no evidence of a difference")


class ComparisonRecord(Record):
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
