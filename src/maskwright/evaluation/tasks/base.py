"""The contract of an evaluation task.

A task is a file `tasks/<name>.py` with a class of that name in CamelCase; nothing lists it. It turns a model (and a
prepared corpus, if it asks for one) into scores; who writes the record is not its business.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from maskwright.corpus.corpus import Corpus
from maskwright.evaluation.scorer import MaskedLanguageModel


class TaskConfig(BaseModel):
    """Settings of a task: strict, so that a typo is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class TaskResult:
    """What a task found; becomes an `EvaluationRecord`.

    Attributes:
        scores: value by metric; the task's docstring says the units.
        baselines: baseline -> metric -> value, so that no score stands alone.
        examples: whatever helps to see what the scores mean.
        settings: what the scores depend on beyond the config, such as the number of sequences.
        data_sha256: checksums of what was scored, by name.
    """

    scores: dict[str, float]
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    data_sha256: dict[str, str] = field(default_factory=dict)


class Task(ABC):
    """One way to score a model. Equal model, data, config and seed give equal scores."""

    Config: ClassVar[type[TaskConfig]] = TaskConfig
    """A task's own settings: a nested class `Config(TaskConfig)`, each field with a description."""

    citation: ClassVar[str] = ""
    """Where the task comes from; goes into reports and model cards."""

    needs_corpus: ClassVar[bool] = False
    """Whether `evaluate` must be given a prepared corpus."""

    def __init__(self, config: Any = None) -> None:
        """Take a `Config` of this class, or None for the defaults."""
        self.config: Any = config or self.Config()

    @abstractmethod
    def evaluate(self, model: MaskedLanguageModel, corpus: Corpus | None, seed: int) -> TaskResult:
        """Score `model`.

        Args:
            model: in no particular mode; it is used through its scoring methods only.
            corpus: a prepared corpus; never None where `needs_corpus` is true.
            seed: of everything the task draws.
        """
