"""One fine-tuning with one seed: data, model, selection, scores.

Nothing is chosen on the reported split unless `selection: reported` asks for it
(`tests/unit/evaluation/fine_tuning/test_experiment.py::test_reported_labels_do_not_reach_the_weights`).
"""

import functools
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import nn

from maskwright.core.errors import EvaluationError
from maskwright.core.hardware import fastest_dtype
from maskwright.core.log import say
from maskwright.core.randomness import numpy_generator, torch_generator
from maskwright.encoders.encoder import Encoder
from maskwright.evaluation.datasets.labelled import LabelledTexts, Splits
from maskwright.evaluation.evaluated_model import EvaluatedModel
from maskwright.evaluation.fine_tuning.adaptation import adapt
from maskwright.evaluation.fine_tuning.encoding import TextEncoder
from maskwright.evaluation.fine_tuning.loop import ComputeSettings, TrainingSummary, outputs, train
from maskwright.evaluation.fine_tuning.model import FineTunedModel
from maskwright.evaluation.fine_tuning.questions import Questions, require_rows
from maskwright.evaluation.fine_tuning.settings import FineTuning
from maskwright.evaluation.fine_tuning.watch import BestStepWatch
from maskwright.evaluation.items import Items

FIXED_SEED = 12
"""Of order and dropout where the seeds change only the head; the BabyLM pipelines' seed."""


class FineTunable(Protocol):
    """What an experiment asks of a kind of task (`fine_tuning/task.py`)."""

    config: Any
    loss: ClassVar[Any]

    def head(self, width: int, splits: Splits, dropout: float) -> Any:
        """See `FineTunedTask`."""
        ...

    def questions(self, encoder: TextEncoder, rows: LabelledTexts, splits: Splits) -> Questions:
        """See `FineTunedTask`."""
        ...

    def items(self, questions: Questions, outputs_MC: Any, rows: LabelledTexts, splits: Splits) -> Items:
        """See `FineTunedTask`."""
        ...

    def deciding_score(self, items: Items, splits: Splits) -> float:
        """See `FineTunedTask`."""
        ...


@dataclass(frozen=True)
class FittedModel:
    """A fine-tuned model with the weights that count, and how it came about."""

    model: FineTunedModel
    questions: Questions
    trained: TrainingSummary
    watch: BestStepWatch


@dataclass
class Experiment:
    """Fine-tunes a subject for a task.

    Attributes:
        task: the kind of task, configured.
        subject: the model.
        splits: the data.
        seed: of the head's first weights and, unless the settings say otherwise, of order, dropout and held-back part.
        notes: what a reader must know, collected on the way.
    """

    task: FineTunable
    subject: EvaluatedModel
    splits: Splits
    seed: int
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Decide what all trainings of this experiment share."""
        asked: FineTuning = self.task.config.training
        self.settings = asked.for_width(self.subject.width)
        self.course_seed = self.seed if self.settings.seed_changes == "everything" else FIXED_SEED
        limit = self.subject.limit_tokens
        self.text_encoder = TextEncoder(self.subject.tokenizer, min(self.settings.max_length, limit))
        self.dtype = precision(self.settings, self.subject.device)

    def run(self) -> tuple[Items, dict[str, Any]]:
        """Fine-tune and answer the reported split.

        Returns:
            The items of the reported split, and what was chosen and measured.

        Raises:
            EvaluationError: the data or the settings can't be used.
        """
        chosen, tried = self._search_grid()
        settings = change_settings(self.settings, chosen)
        train_rows, watched = self._parts(settings.selection)
        fitted = self.fit(settings, train_rows, watched)
        self._note_selection(fitted)
        questions = self.questions(self.splits.test, "reported")
        items = self.task.items(questions, self._answers(fitted.model, questions), self.splits.test, self.splits)
        facts: dict[str, Any] = dict(chosen)
        if tried:
            facts["tried"] = tried
        if fitted.watch.history:
            facts["best_step"] = fitted.watch.best_step
            facts["score_by_step"] = fitted.watch.history
        facts |= {
            "num_steps": fitted.trained.num_steps,
            "num_train_examples": len(train_rows),
            "num_train_sequences": len(fitted.questions),
            "num_cut_train_sequences": fitted.questions.sequences.num_cut,
            "num_cut_sequences": questions.sequences.num_cut,
            "num_learning_parameters": sum(one.numel() for one in fitted.model.parameters() if one.requires_grad),
            "train_seconds": round(fitted.trained.seconds, 3),
            "train_examples_per_second": round(fitted.trained.examples_per_second, 1),
            "used_learning_rate": settings.peak_learning_rate,
            "used_max_length": self.text_encoder.max_length,
            "used_precision": str(self.dtype).removeprefix("torch."),
            "losses": [round(loss, 4) for loss in fitted.trained.losses],
        }
        return items, facts

    def fit(self, settings: FineTuning, train_rows: LabelledTexts, watched: LabelledTexts | None) -> FittedModel:
        """Fine-tune a fresh copy of the encoder.

        Args:
            settings: the protocol.
            train_rows: what is learned from.
            watched: what the best step is chosen on; None takes the last.
        """
        questions = self.questions(train_rows, "training")
        model = self.new_model(settings)
        score = None
        if watched is not None:
            watched_questions = self.questions(watched, "watched")
            score = functools.partial(self._score, model, watched, watched_questions)
        watch = BestStepWatch(model, score, settings)
        machine = self._machine(model)
        trained = train(model, questions, self.task.loss, settings, machine, self.course_seed, watch)
        watch.restore_best()
        return FittedModel(model, questions, trained, watch)

    def new_model(self, settings: FineTuning) -> FineTunedModel:
        """Return the pre-trained encoder with a fresh head, on the device."""
        encoder = self.subject.new_encoder(settings.dropout)
        encoder.choose_attention(self.subject.device, self.dtype, self.text_encoder.max_length)
        adapt(encoder, settings, torch_generator(self.course_seed, "fine_tuning_lora"))
        dropout = largest_dropout(encoder) if settings.dropout is None else settings.dropout
        head = self.task.head(encoder.config.hidden_size, self.splits, dropout)
        head.initialize(torch_generator(self.seed, "fine_tuning_head"))
        return FineTunedModel(encoder, head).to(self.subject.device)

    def questions(self, rows: LabelledTexts, role: str) -> Questions:
        """Return the questions about a split.

        Raises:
            EvaluationError: there are none.
        """
        questions = self.task.questions(self.text_encoder, rows, self.splits)
        require_rows(questions, f"{rows.origin} ({role} split)")
        if num_cut := questions.sequences.num_cut:
            length = self.text_encoder.max_length
            whose = ", the model's limit," if length < self.settings.max_length else ""
            self._note(
                f"{num_cut:,} of {len(rows):,} texts of the {role} split were longer than {length} tokens{whose} "
                "and were cut."
            )
        return questions

    def _machine(self, model: FineTunedModel) -> ComputeSettings:
        pad_id, limit = model.encoder.config.pad_token_id, model.encoder.config.max_positions
        return ComputeSettings(self.subject.device, self.dtype, pad_id, limit, self.settings.tokens_per_pass)

    def _answers(self, model: FineTunedModel, questions: Questions) -> np.ndarray:
        return outputs(model, questions, self._machine(model))

    def _score(self, model: FineTunedModel, rows: LabelledTexts, questions: Questions) -> float:
        """Return the score that decides, of the model as it is."""
        items = self.task.items(questions, self._answers(model, questions), rows, self.splits)
        return self.task.deciding_score(items, self.splits)

    def _search_grid(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the best combination of the search grid on held-back data, and the score of every one."""
        grid = self.settings.grid
        if len(grid) == 1:
            return grid[0], []
        kept, held_back = self._parts("train_part")
        assert held_back is not None
        questions = self.questions(held_back, "held-back")
        tried: list[dict[str, Any]] = []
        for number, combination in enumerate(grid, start=1):
            say(
                f"search {number} of {len(grid)}: "
                + ", ".join(f"{key} {value:g}" for key, value in combination.items())
            )
            is_watched = self.settings.selection != "none"
            fitted = self.fit(change_settings(self.settings, combination), kept, held_back if is_watched else None)
            tried.append(combination | {"score": self._score(fitted.model, held_back, questions)})
        best = max(range(len(grid)), key=lambda index: tried[index]["score"])
        self._note(
            f"Hyper-parameters were chosen from {len(grid)} combinations on {len(held_back):,} held-back examples."
        )
        return grid[best], tried

    def _parts(self, selection: str) -> tuple[LabelledTexts, LabelledTexts | None]:
        """Return what is learned from, and what is chosen on."""
        train_rows = self.splits.train
        if selection == "none":
            return train_rows, None
        if selection == "reported":
            return train_rows, self.splits.as_selected_by_babylm or self.splits.test
        if self.splits.validation is not None:
            return train_rows, self.splits.validation
        return hold_back(train_rows, self.settings.held_back_fraction, self.course_seed)

    def _note_selection(self, fitted: FittedModel) -> None:
        selection, history = self.settings.selection, fitted.watch.history
        if selection == "reported" and history:
            asked_by = (
                f"the preset {self.settings.preset}" if self.settings.preset != "default" else "training.selection"
            )
            self._note(f"The best step was chosen on the reported split, as {asked_by} asks; scores are optimistic.")
        if selection != "none" and not history:
            every = self.settings.evaluate_every_steps
            self._note(f"Training ended before its first look at a score (every {every} steps); the last step counts.")
        if selection == "train_part" and self.splits.validation is None:
            share = f"{self.settings.held_back_fraction:.0%}"
            self._note(f"{share} of the training data were held back to choose the best step and not learned from.")

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def change_settings(settings: FineTuning, combination: dict[str, Any]) -> FineTuning:
    """Return the settings with some changed, validated."""
    return FineTuning.model_validate(settings.model_dump() | combination)


def hold_back(rows: LabelledTexts, fraction: float, seed: int) -> tuple[LabelledTexts, LabelledTexts]:
    """Cut rows into those that are learned from and those that are held back; choices of one question stay together.

    Raises:
        EvaluationError: too few rows.
    """
    names = np.array(rows.question_ids or [str(row) for row in range(len(rows))])
    units = np.unique(names)
    num_held_back = max(1, round(fraction * len(units)))
    if num_held_back >= len(units):
        raise EvaluationError(
            f"{rows.origin} has {len(units)} examples, of which {fraction:.0%} can't be held back",
            "more training data, or a validation split",
            "set training.selection=none",
        )
    drawn = numpy_generator(seed, "fine_tuning_held_back").permutation(units)[:num_held_back]
    is_held_back = np.isin(names, drawn)
    return rows.take(np.flatnonzero(~is_held_back)), rows.take(np.flatnonzero(is_held_back))


def largest_dropout(encoder: Encoder) -> float:
    """Return the largest dropout rate of hidden states that an encoder has."""
    rates = [module.p for module in encoder.modules() if isinstance(module, nn.Dropout)]
    return max([*rates, getattr(encoder.config, "hidden_dropout", 0.0)])


def precision(settings: FineTuning, device: torch.device) -> torch.dtype:
    """Return the dtype of matrix products."""
    return _fastest_dtype(device) if settings.precision == "auto" else getattr(torch, settings.precision)


@functools.cache
def _fastest_dtype(device: torch.device) -> torch.dtype:
    """Measure once a process, so that all tasks and seeds have the same precision."""
    return fastest_dtype(device)
