"""The contract of an evaluation task: a kind of question, and what its answers are worth.

A kind is one file in `tasks/` with a class of that name in CamelCase; nothing lists it. A YAML file next to it, or
anywhere, says which data a kind is applied to (docs/evaluation.md). A task turns a model into scores; who repeats it
over seeds and writes the record is not its business.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from maskwright.core.errors import EvaluationError
from maskwright.core.options import Options
from maskwright.corpus.corpus import Corpus
from maskwright.evaluation.evaluated_model import EvaluatedModel
from maskwright.evaluation.items import Items
from maskwright.evaluation.scorer import MaskedLanguageModel

LOWER_IS_BETTER = frozenset({"cross_entropy", "mean_absolute_error"})
"""Metrics of which the lowest value is the best."""


def is_better(metric: str, one: float, other: float) -> bool:
    """Return whether one score is better than another."""
    return one < other if metric in LOWER_IS_BETTER else one > other


class TaskConfig(Options):
    """Settings of a task: strict, so that a typo is noticed."""

    title: str = Field(default="", description="what people call the task; its name by default")
    citation: str = Field(default="", description="where its data comes from; goes into reports and model cards")


class TaskResult(BaseModel):
    """What a task found, with one seed.

    Attributes:
        scores: value by metric; the task's docstring says the units.
        groups: part of the data -> metric -> value.
        baselines: baseline -> metric -> value, so that no score stands alone.
        examples: whatever helps to see what the scores mean.
        settings: what the scores depend on beyond the config, such as the number of sequences or the best epoch.
        notes: what a reader must know to judge the scores, in words.
        items: what the scores are computed from; None if there are no single items.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    scores: dict[str, float]
    groups: dict[str, dict[str, float]] = Field(default_factory=dict)
    baselines: dict[str, dict[str, float]] = Field(default_factory=dict)
    examples: list[dict[str, Any]] = Field(default_factory=list)
    settings: dict[str, Any] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)
    items: Items | None = Field(default=None, exclude=True)


class Task(ABC):
    """One way to score a model. Equal model, data, config and seed give equal scores."""

    Config: ClassVar[type[TaskConfig]] = TaskConfig
    """A kind's own settings: a nested class `Config(TaskConfig)`, each field with a description."""

    citation: ClassVar[str] = ""
    """Where the kind of question comes from; a task's own citation stands in for it."""

    needs_corpus: ClassVar[bool] = False
    """Whether it scores a prepared corpus."""

    is_repeated: ClassVar[bool] = False
    """Whether the seed matters so much that a task is run with several (fine-tuning is)."""

    main_metric: str | None = None
    """The score that tables show and that compares two models; None if there is no such score."""

    compared_by: str | None = None
    """The score by which recipes are compared if there is no main metric."""

    def __init__(self, config: Any = None) -> None:
        """Take a `Config` of this class, or None for the defaults."""
        self.config: Any = config or self.Config()

    @abstractmethod
    def data_sha256(self, subject: EvaluatedModel) -> dict[str, str]:
        """Return the checksum of everything that the task reads, by name; cheap, and before anything is computed.

        Raises:
            MissingData: the data is not there; says where to get it and in which layout it is expected.
            EvaluationError: `subject` lacks what the task needs.
        """

    @abstractmethod
    def evaluate(self, subject: EvaluatedModel, seed: int) -> TaskResult:
        """Score a model.

        Args:
            subject: the model, and the data it is scored on.
            seed: of everything the task draws.

        Raises:
            EvaluationError: the model or the data can't be used.
        """

    def scores(self, items: Items) -> dict[str, float]:
        """Return the scores of some items; pure and vectorised, it is called for every resample of a bootstrap."""
        raise NotImplementedError(f"{type(self).__name__} has no single items")


def corpus_of(subject: EvaluatedModel) -> Corpus:
    """Return the corpus that is scored.

    Raises:
        EvaluationError: there is none.
    """
    if subject.corpus is None:
        raise EvaluationError(
            "there is no corpus to take held-out text from", "a prepared corpus", "name its folder with --corpus"
        )
    return subject.corpus


def corpus_sha256(subject: EvaluatedModel) -> dict[str, str]:
    """Return the checksums of the corpus that is scored, as `Task.data_sha256` does: tokens, and which are clean.

    Raises:
        EvaluationError: there is none.
    """
    manifest = corpus_of(subject).manifest
    shared = {} if manifest.shared_runs is None else {"shared_runs": manifest.shared_runs.sha256}
    return {"corpus": manifest.content_sha256} | shared


def require_same_tokenizer(model: MaskedLanguageModel, corpus: Corpus) -> None:
    """Raise an `EvaluationError` where the corpus's token ids mean other tokens to the model."""
    if model.vocabulary.sha256 != corpus.vocabulary.sha256:
        raise EvaluationError(
            f"{corpus.folder} was prepared with another tokenizer ({corpus.vocabulary.size:,} tokens) than the "
            f"model's ({model.vocabulary.size:,} tokens)",
            "a corpus prepared with the model's tokenizer",
            "prepare the text again with the model's folder as its tokenizer",
        )
