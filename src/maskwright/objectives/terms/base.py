"""The contract of a term: what it asks of a corrupted batch, and the loss of the answer.

To add one, write one file next to this one (`my_idea.py` with the class `MyIdea`), or anywhere else and name it
"module:Class" among an objective's `terms`. A term brings its own head, if it needs one; the positions it asks at are
answered by the same forward pass as those of the other terms. docs/add_an_objective.md shows a complete one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from maskwright.core.batches import CorruptedBatch, LossTerm, PackedBatch, Question, SlotLosses
from maskwright.core.errors import RecipeError
from maskwright.core.options import Options
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import Corpus
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import Encoder
from maskwright.heads.model_heads import ModelHeads
from maskwright.heads.token_head import TokenHead
from maskwright.masking.corruption import Corruption
from maskwright.masking.phase_start import PhaseStart

Hide = Callable[[PackedBatch, torch.Generator, float], Corruption]
"""Corrupts a clean batch as the objective does, at a progress of the phase."""


class TermConfig(Options):
    """Options that every term has."""

    weight: float = Field(default=1.0, gt=0, description="factor of the term's mean in the loss")

    @property
    def needs_phase_before(self) -> bool:
        """Whether the phase can't be the first of a recipe, because the term builds on what the one before left."""
        return False

    @property
    def needs_documents(self) -> bool:
        """Whether every sequence must be a run of one document, because targets are found by a token's number there."""
        return False


class Term(nn.Module, ABC):
    """One sum of the loss. Heads, teachers and statistics of the term's own are sub-modules of it.

    Attributes:
        Config: class of the options, a subclass of `TermConfig`.
        citation: where the idea comes from; goes into reports and model cards.
        metrics: names of further sums that `loss` reports.
        needs_begin: whether `begin` must have been called before `ask` and `loss`.
        trains_vocabulary_head: whether `loss` runs the model's vocabulary head.
        shows_predictions: whether `loss` says how each slot fared when `is_observed`; masking strategies that learn
            need such a term.
        needs_labels: whether `ask` reads `PackedBatch.labels_S`, so that the sampler must give labels.
        follows_model: whether targets are made again of the model as it learns, so that means of the term at two steps
            don't compare.
        counts_steps: whether the phase must have the steps that were planned, even if its hours are missed.
        name: the term's name among the objective's, and in metrics.
        is_observed: whether a masking strategy wants to see how each slot fared.
    """

    Config: ClassVar[type[TermConfig]] = TermConfig
    citation: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]] = ()
    trains_vocabulary_head: ClassVar[bool] = False
    shows_predictions: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    follows_model: ClassVar[bool] = False
    counts_steps: ClassVar[bool] = False
    needs_begin: bool = False
    name: str = ""
    is_observed: bool = False

    def __init__(self, config: Any, encoder: Encoder, vocabulary: Vocabulary) -> None:
        """Keep what every term needs. Sub-classes make their own heads here.

        Args:
            config: validated options.
            encoder: only its configuration may be used here; it is no sub-module.
            vocabulary: size and special tokens.
        """
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary

    def initialize(self, generator: torch.Generator) -> None:
        """Draw the weights of the term's own heads; without heads of its own there are none.

        Called once, when the model of a phase is built, with a generator that depends on the run's seed.
        """

    def check_resources(self, corpus: Corpus, sequence_length: int, available_bytes: int) -> None:
        """Refuse before a run's first step what `begin` would refuse after hours of earlier phases. By default nothing.

        Raises:
            CorpusError: the text is too short.
            MemoryShortage: what `begin` makes does not fit.
        """

    def require_before(self, before: EncoderConfig) -> None:
        """Refuse before a run's first step what the model of the phase before can't give. By default nothing.

        Args:
            before: options of that phase's encoder, which may be shallower or of another shape.

        Raises:
            RecipeError: the phase before can't give it.
        """

    def begin(self, encoder: Encoder, vocabulary_head: TokenHead, start: PhaseStart, hide: Hide) -> None:
        """Make ready for the phase: read or make what the term needs besides its weights. By default nothing.

        Called in every process that goes on with the phase, before its first step there, and after a checkpoint was
        saved. Making may take long: it shows progress, and goes on where it was if it is killed.

        Args:
            encoder, vocabulary_head: with the weights that the phase begins with, or later ones if it was begun.
            start: of the phase.
            hide: corrupts a batch as the objective does.
        """

    def ask(self, packed: PackedBatch, corruption: Corruption, generator: torch.Generator, progress: float) -> Question:
        """Return what the term asks of a batch, on the host; by default the clean token at each selected position.

        Pure. A term that asks at the selected positions shares `corruption.positions_M`, so that one reading of the
        encoder answers it together with the others.

        Args:
            packed: the clean batch; not changed.
            corruption: what the encoder will read, and which positions were selected.
            generator: on the CPU; a function of (seed, step, micro-batch).
            progress: of the phase, in [0, 1].
        """
        return corruption.ask(packed.token_ids_T[corruption.positions])

    def complete(self, encoder: Encoder, batch: CorruptedBatch, question: Question) -> Question:
        """Add targets that take a forward pass but no gradient, on the device; by default the question as it is.

        Called outside the compiled graph, without gradient and without autocast.
        """
        return question

    @abstractmethod
    def loss(self, x_MD: Tensor, question: Question, heads: ModelHeads) -> LossTerm:
        """Return the term, as a sum; `answer` makes it. On the device, one graph under `torch.compile`.

        Args:
            x_MD: float [M, D], the hidden states at the question's positions.
            question: completed.
            heads: of the model.
        """

    def answer(self, question: Question, total: Tensor, slots: SlotLosses | None = None, **metrics: Tensor) -> LossTerm:
        """Return the `LossTerm` of a question under the term's own name and weight.

        Raises:
            RecipeError: `total` is no scalar.

        Args:
            question: gives the count.
            total: scalar, the sum over the slots in use.
            slots: how each slot fared, where `is_observed`.
            metrics: sums by the names that `metrics` declares.
        """
        if total.ndim:
            raise RecipeError(
                f"the term {self.name} answers with a tensor of the shape {list(total.shape)}",
                "a scalar, the sum over the slots in use",
                "add .sum() to its `loss`; not .mean(), since the engine divides by the count of the whole batch",
            )
        named = {f"{self.name}_{key}": value for key, value in metrics.items()}
        return LossTerm(self.name, total, question.count, self.config.weight, named, slots)

    def after_step(self, encoder: Encoder, num_steps: int) -> None:
        """Do what is due between two steps, such as refreshing statistics kept in buffers. By default nothing.

        Called in every process after an update, before a checkpoint is saved.

        Args:
            encoder: as the update left it.
            num_steps: of the phase that were made.
        """

    def exported_heads(self) -> Mapping[str, nn.Module]:
        """Return the heads of the term's own that go into an export, by kind (`Outcome.heads`). By default none."""
        return {}

    @abstractmethod
    def logits_per_slot(self) -> int:
        """Return how many logits a scored position takes, for planning memory; 0 for a term without logits."""

    @abstractmethod
    def flops_per_token(self, config: EncoderConfig, sequence_length: int, rate: float) -> float:
        """Return the term's FLOPs of a training step per token of the batch, the encoder's own left out.

        Args:
            config: of the encoder.
            sequence_length: of the phase.
            rate: share of the tokens that is selected, at most.
        """

    def forecast(
        self, config: EncoderConfig, sequence_length: int, rate: float, flops_per_second: float
    ) -> list[tuple[str, str]]:
        """Return what `maskwright plan` says of the work besides training steps, as names and values. By default none.

        Args:
            config, sequence_length, rate: see `flops_per_token`.
            flops_per_second: that training is expected to reach.
        """
        return []


def require_complete(term: Term) -> None:
    """Refuse a term that lacks what only shows later, or never.

    Raises:
        RecipeError: it has no citation, or weights that nothing draws from the run's seed.
    """
    kind = type(term).__name__
    if not isinstance(getattr(term, "citation", None), str):
        raise RecipeError(
            f"the term {kind} has no `citation`",
            "a class attribute that names the source, such as citation = 'Devlin et al. 2019, BERT, arXiv:1810.04805'",
            "add it; reports and model cards show it",
        )
    if type(term).initialize is Term.initialize and any(True for _ in term.parameters()):
        raise RecipeError(
            f"the term {kind} has weights of its own and no `initialize`",
            "a method `initialize(self, generator)` that draws all of them",
            "add it, so that two runs of one recipe are the same (docs/add_an_objective.md)",
        )
