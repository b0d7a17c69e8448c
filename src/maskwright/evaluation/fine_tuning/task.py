"""What all kinds of fine-tuning tasks share: settings, data, baselines, and how a model becomes a result."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from maskwright.core.errors import EvaluationError
from maskwright.evaluation.datasets.labelled import LabelledTexts, Splits
from maskwright.evaluation.datasets.locate import files_sha256
from maskwright.evaluation.datasets.read_splits import read_splits
from maskwright.evaluation.datasets.section import DataSection, Kind
from maskwright.evaluation.evaluated_model import EvaluatedModel
from maskwright.evaluation.fine_tuning.encoding import TextEncoder
from maskwright.evaluation.fine_tuning.experiment import Experiment
from maskwright.evaluation.fine_tuning.model import TaskHead, TaskLoss
from maskwright.evaluation.fine_tuning.questions import Questions
from maskwright.evaluation.fine_tuning.settings import FineTuning
from maskwright.evaluation.items import Items
from maskwright.evaluation.metrics import METRICS, metrics_of
from maskwright.evaluation.tasks.base import LOWER_IS_BETTER, Task, TaskConfig, TaskResult


class FineTunedTask(Task):
    """A kind of task that a model is fine-tuned for."""

    class Config(TaskConfig):
        """Settings."""

        data: DataSection = Field(description="which files, what is text and what is label (docs/tasks.md)")
        metrics: list[str] = Field(
            default=[], description="the scores, the first one stands in tables; empty: those of the kind"
        )
        training: FineTuning = Field(
            default_factory=FineTuning, description="how the model is fine-tuned (docs/fine_tuning.md)"
        )

    kind: ClassVar[Kind]
    loss: ClassVar[TaskLoss]
    is_repeated = True

    def __init__(self, config: Any = None) -> None:
        """Take a `Config` of this class.

        Raises:
            RecipeError: the kind has no metric of a name.
        """
        super().__init__(config)
        self.metrics = metrics_of(self.kind, self.config.metrics)
        self.main_metric = next(iter(self.metrics))
        self._baselines: dict[tuple[str, str], Mapping[str, dict[str, float]]] = {}

    @property
    def title(self) -> str:
        """What people call the task, for messages."""
        return self.config.title or self.kind.replace("_", " ")

    def data_sha256(self, subject: EvaluatedModel) -> dict[str, str]:
        """Return the checksum of every file.

        Raises:
            MissingData: the data is not there.
        """
        return files_sha256(self.config.data, subject.data, self.title)

    def evaluate(self, subject: EvaluatedModel, seed: int) -> TaskResult:
        """Fine-tune a model and score it on the reported split.

        Raises:
            EvaluationError: the model or the data can't be used.
        """
        splits = read_splits(self.config.data, self.kind, subject.data, self.title)
        self._require_classes_for_metrics(splits)
        experiment = Experiment(self, subject, splits, seed)
        items, facts = experiment.run()
        return TaskResult(
            scores=self.scores(items),
            groups=self._by_stratum(items),
            baselines=dict(self._baselines_of(splits)),
            settings=facts,
            notes=[*splits.notes, *experiment.notes, *self.notes(items)],
            items=items,
        )

    @abstractmethod
    def questions(self, encoder: TextEncoder, rows: LabelledTexts, splits: Splits) -> Questions:
        """Return rows as token sequences with targets; of `splits` only what is known from `train` may be used."""

    @abstractmethod
    def head(self, width: int, splits: Splits, dropout: float) -> TaskHead:
        """Return a head for hidden states of some width; its weights are drawn later."""

    @abstractmethod
    def items(self, questions: Questions, outputs_MC: np.ndarray, rows: LabelledTexts, splits: Splits) -> Items:
        """Return what the model answered, with the columns that the metrics take.

        Args:
            questions: what `questions` made of the rows.
            outputs_MC: float32 [M, C], the head's outputs at the asked positions.
            rows: the rows that were asked.
            splits: the whole data set; only what is known from `train` may be used.
        """

    @abstractmethod
    def guesses(self, splits: Splits) -> Mapping[str, Items]:
        """Return the answers to the reported split of guessers that know the training data only, by their names."""

    def _baselines_of(self, splits: Splits) -> Mapping[str, dict[str, float]]:
        """Return the scores of the guessers, which are the same for all seeds and models."""
        data = splits.train.origin, splits.test.origin
        if data not in self._baselines:
            self._baselines[data] = {name: self.scores(items) for name, items in self.guesses(splits).items()}
        return self._baselines[data]

    def scores(self, items: Items) -> dict[str, float]:
        """Return the scores of some items, the main one first."""
        return {name: metric(items.columns) for name, metric in self.metrics.items()}

    def deciding_score(self, items: Items, splits: Splits) -> float:
        """Return the score by which a best step or the best hyper-parameters are chosen; the higher the better."""
        name = self.main_metric
        if self.kind == "classification" and self.config.training.select_by == "f1_or_accuracy":
            name = "f1" if len(splits.label_names) == 2 else "accuracy"
        value = METRICS[self.kind][str(name)](items.columns)
        return -value if name in LOWER_IS_BETTER else value

    def notes(self, items: Items) -> list[str]:
        """Return what a reader must know to judge the scores."""
        return []

    def _require_classes_for_metrics(self, splits: Splits) -> None:
        num_classes = len(splits.label_names)
        for name, metric in self.metrics.items():
            if metric.needs_two_classes and num_classes != 2:
                raise EvaluationError(
                    f"{self.title}: the metric {name} is for two classes, the data has {num_classes}",
                    "a metric for any number of classes",
                    "take macro_f1 or accuracy",
                )

    def _by_stratum(self, items: Items) -> dict[str, dict[str, float]]:
        """Return the scores of each part of the data; empty if there are no parts."""
        if len(items.strata) < 2:
            return {}
        parts = {name: np.flatnonzero(items.stratum_index == index) for index, name in enumerate(items.strata)}
        return {name: self.scores(items.take(part)) for name, part in parts.items()}


def order_items(
    rows: LabelledTexts,
    columns: Mapping[str, np.ndarray],
    ids: list[str] | None = None,
    texts: Mapping[str, list[str]] | None = None,
) -> Items:
    """Return items in the order of the rows.

    Args:
        rows: give ids and strata.
        columns: numbers by name.
        ids: of the items, where they are not rows but questions with several choices.
        texts: text by name.
    """
    names = np.array(list(rows.ids) if ids is None else ids)
    if not rows.strata or ids is not None:
        return Items(names, columns, np.zeros(len(names), dtype=np.int64), texts=dict(texts or {}))
    strata = sorted(set(rows.strata))
    index_of = {name: index for index, name in enumerate(strata)}
    index = np.array([index_of[name] for name in rows.strata], dtype=np.int64)
    return Items(names, columns, index, strata, dict(texts or {}))
