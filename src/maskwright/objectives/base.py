"""The contract of an objective: how it corrupts a packed batch, how the encoder reads it, and which terms it is asked.

Most objectives are compositions: a corruption from `masking/`, the default reading (one pass of the encoder at all
positions that any term asks at), and terms from `objectives/terms/`. To add one, write one file next to this one
(`my_idea.py` with the class `MyIdea`), or anywhere else and name it "module:Class" in a recipe.
docs/add_an_objective.md shows complete ones.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from maskwright.core.batches import CorruptedBatch, LossTerm, PackedBatch, Question, Reading, asked_positions, groups_of
from maskwright.core.errors import RecipeError
from maskwright.core.options import Options
from maskwright.core.plug_in_field import Chosen, ChosenFrom
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import Corpus
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import Encoder
from maskwright.encoders.flops import flops_per_token
from maskwright.heads.model_heads import ModelHeads
from maskwright.heads.token_head import VOCABULARY, TokenHead
from maskwright.masking.corruption import Corruption
from maskwright.masking.phase_start import PhaseStart
from maskwright.models.outcome import FillsMasks, Outcome
from maskwright.objectives.terms.base import Term, require_complete

TERMS = ChosenFrom("maskwright.objectives.terms", Term)

ChosenTerms = tuple[Annotated[Chosen[Term], TERMS], ...]
"""Type of an option that lists terms."""


class ObjectiveConfig(Options):
    """Base of an objective's options."""

    @property
    def needs_phase_before(self) -> bool:
        """Whether the phase can't be the first of a recipe, because it builds on what the one before left."""
        return False


class TermsConfig(ObjectiveConfig):
    """Options of an objective whose terms the recipe chooses."""

    terms: ChosenTerms = Field(
        default_factory=lambda: (TERMS.choose("token"),),
        min_length=1,
        description="what is asked of the corrupted text, all in one forward pass: names of plug-ins of "
        "objectives/terms (token, atoms ...), or mappings of `name` and its options, such as weight",
    )

    @model_validator(mode="after")
    def _every_term_once(self) -> Self:
        labels = [term.label for term in self.terms]
        if len(set(labels)) < len(labels):
            raise ValueError(f"terms are {', '.join(labels)}: each may be there once")
        return self

    @property
    def needs_phase_before(self) -> bool:
        """See `ObjectiveConfig`: whether a term does."""
        return any(term.options.needs_phase_before for term in self.terms)


class Objective(nn.Module, ABC):
    """What a model is asked to do. Heads, teachers and decoders are sub-modules of it or of its terms.

    Attributes:
        Config: class of the options, a subclass of `ObjectiveConfig`.
        citation: where the idea comes from; goes into reports and model cards.
        mask_reader: what could fill masks if the vocabulary head is trained: the encoder, where its input has [MASK]
            in it, or a reader.
        terms: by name, in the order in which they are asked.
        vocabulary_head: the model's head over the vocabulary. It belongs to the model and is handed to the objectives
            of all phases.
    """

    Config: ClassVar[type[ObjectiveConfig]] = ObjectiveConfig
    citation: ClassVar[str]
    mask_reader: ClassVar[FillsMasks] = "encoder"

    def __init__(self, config: Any, encoder: Encoder, vocabulary: Vocabulary, vocabulary_head: TokenHead) -> None:
        """Make the terms. Sub-classes make what else they need.

        Args:
            config: validated options.
            encoder: only its configuration may be used here; it is given again to `loss`, and is not a sub-module.
            vocabulary: size and special tokens.
            vocabulary_head: shared with the run's other objectives.
        """
        super().__init__()
        self.config: Any = config
        self.vocabulary = vocabulary
        self.vocabulary_head = vocabulary_head
        self.terms = nn.ModuleDict()
        for chosen in self.chosen_terms(config):
            term = chosen.plug_in(chosen.options, encoder, vocabulary)
            term.name = chosen.label
            require_complete(term)
            self.terms[chosen.label] = term
        is_special_V = torch.zeros(vocabulary.size, dtype=torch.bool)
        is_special_V[list(vocabulary.special_ids)] = True
        self._is_special_V = is_special_V  # on the host, where `corrupt` runs; not a buffer

    # --- what a sub-class may be asked before there is a model

    @classmethod
    def require_fit(
        cls, options: Any, encoder_class: type[Encoder], encoder: EncoderConfig, sequence_length: int
    ) -> None:
        """Refuse options that don't go with a phase, when a recipe is read and nothing was done yet.

        Args:
            options: a `Config` of the class.
            encoder_class: family of the recipe's encoder.
            encoder: its options.
            sequence_length: of the phase.

        Raises:
            RecipeError: they don't; the message need not name phase and objective.
        """

    @classmethod
    def chosen_terms(cls, options: Any) -> Sequence[Chosen[Term]]:
        """Return the terms of some options; by default those that the recipe chose."""
        return options.terms

    @classmethod
    def fills_masks_with(cls, options: Any) -> FillsMasks:
        """Return what can fill masks after a phase with some options."""
        trains_head = any(term.plug_in.trains_vocabulary_head for term in cls.chosen_terms(options))
        return cls.mask_reader if trains_head else "no"

    @classmethod
    def all_terms(cls, options: Any) -> Sequence[Chosen[Term]]:
        """Return every term that is asked with some options, those of inner objectives too."""
        return cls.chosen_terms(options)

    # --- the three roles

    @abstractmethod
    def corrupt(self, packed: PackedBatch, generator: torch.Generator, progress: float) -> CorruptedBatch:
        """Decide what the encoder reads and what every term asks, on the host.

        Pure: the same arguments give the same result, and `packed` is not changed. Every shape of the result depends
        on the number of tokens, the options and `progress` alone.

        Args:
            packed: clean tokens, on the CPU.
            generator: a function of (seed, step, micro-batch), never of the rank.
            progress: of the phase, in [0, 1]; drives schedules.
        """

    def complete(self, encoder: Encoder, batch: CorruptedBatch) -> CorruptedBatch:
        """Add to a batch, on the device, what takes a forward pass but no gradient; by default the terms' targets.

        Called before `loss`, outside the compiled graph and outside autocast.
        """
        questions = {
            name: self.term(name).complete(encoder, batch, question) for name, question in batch.questions.items()
        }
        return replace(batch, questions=questions)

    def read(self, encoder: Encoder, batch: CorruptedBatch) -> Reading:
        """Return the hidden states at the positions of every question; with gradient.

        By default the encoder reads the batch once, at all positions that are asked; what only other positions need is
        not computed.
        """
        return Reading.of(encoder(batch.input, asked_positions(batch)), batch)

    # --- the loss, made of the three

    def loss(self, encoder: Encoder, batch: CorruptedBatch) -> tuple[LossTerm, ...]:
        """Return the terms of the loss, as sums. Runs on the device; one graph under `torch.compile`."""
        reading = self.read(encoder, batch)
        heads = ModelHeads(self.vocabulary_head, encoder.embedding_weight_VE)
        terms = []
        for name, question in reading.questions.items():
            term = self.term(name).loss(reading.states[name], question, self.heads_of(name, heads))
            if not isinstance(term, LossTerm):
                raise RecipeError(
                    f"`loss` of the term {name} returns a {type(term).__name__}",
                    "what self.answer(question, total) returns, with the sum over the slots in use",
                )
            if term.slots is not None and self.training:
                self.observe(question, term)
            terms.append(replace(term, slots=None))
        return tuple(terms)

    def heads_of(self, name: str, heads: ModelHeads) -> ModelHeads:
        """Return the heads that a term predicts with: the model's, or those of another encoder that `read` ran."""
        return heads

    def observe(self, question: Question, term: LossTerm) -> None:
        """Take notice of how slots fared in training, inside the compiled graph. By default nothing."""

    def term(self, name: str) -> Term:
        """Return one of the terms."""
        term = self.terms[name]
        assert isinstance(term, Term)
        return term

    @property
    def compared_terms(self) -> frozenset[str]:
        """The terms whose means on held-out text decide which weights are best; all of them if all follow the model."""
        fixed = frozenset(name for name in self.terms if not self.term(name).follows_model)
        return fixed or frozenset(self.terms)

    @property
    def metric_terms(self) -> dict[str, str]:
        """The term that each metric belongs to; a term is a metric of its own. Declared, so the same on every rank."""
        names: dict[str, str] = {}
        for name in self.terms:
            names |= dict.fromkeys([name, *(f"{name}_{metric}" for metric in self.term(name).metrics)], name)
        return names

    # --- what it leaves behind

    def outcome(self, encoder: Encoder) -> Outcome:
        """Return what an export keeps of the phase, and what can fill masks afterwards.

        By default the model's vocabulary head goes into the export, whether or not this phase trained it, and with it
        the heads that terms name.
        """
        fills_masks = self.fills_masks_with(self.config)
        heads: dict[str, nn.Module] = {VOCABULARY: self.vocabulary_head}
        for name in self.terms:
            heads |= self.term(name).exported_heads()
        return Outcome(heads, fills_masks, None if fills_masks == "no" else self.reader(encoder))

    def reader(self, encoder: Encoder) -> nn.Module:
        """Return what reads masked text as `read` does, for evaluation to predict with; by default the encoder.

        It is called as the encoder is, with a batch in which masks stand for tokens; it returns the states that the
        vocabulary head takes.
        """
        return encoder

    @property
    def trains_vocabulary_head(self) -> bool:
        """Whether a term runs the model's vocabulary head; where none does, the phase leaves the head as it was."""
        return any(self.term(name).trains_vocabulary_head for name in self.terms)

    @property
    def uses_every_parameter(self) -> bool:
        """Whether every parameter has a part in the loss of every micro-batch."""
        return self.trains_vocabulary_head

    @property
    def needs_begin(self) -> bool:
        """Whether `begin` must have been called before `corrupt` and `loss`."""
        return any(self.term(name).needs_begin for name in self.terms)

    @property
    def citations(self) -> dict[str, str]:
        """The sources of the objective's terms by name."""
        return {name: self.term(name).citation for name in self.terms}

    # --- the course of a phase

    def initialize(self, generator: torch.Generator) -> None:
        """Draw the weights of the objective's own heads and those of its terms.

        Called once, when the model of a run is built, with a generator that depends on the run's seed.
        """
        for name in self.terms:
            self.term(name).initialize(generator)

    def check_resources(self, corpus: Corpus, sequence_length: int, available_bytes: int) -> None:
        """Refuse before a run's first step what `begin` would refuse after hours of earlier phases.

        Args:
            corpus: of the run.
            sequence_length: of the phase.
            available_bytes: memory of the device.

        Raises:
            CorpusError: the text is too short.
            MemoryShortage: what `begin` makes does not fit.
            RecipeError: what it would read does not go with the encoder.
        """
        for name in self.terms:
            self.term(name).check_resources(corpus, sequence_length, available_bytes)

    def begin(self, encoder: Encoder, start: PhaseStart) -> None:
        """Make ready for the phase; see `Term.begin`. By default nothing."""

    def after_step(self, encoder: Encoder, num_steps: int) -> None:
        """Do what is due between two steps; see `Term.after_step`."""
        for name in self.terms:
            self.term(name).after_step(encoder, num_steps)

    # --- what it costs

    @abstractmethod
    def scored_share(self) -> float:
        """Return the largest share of the tokens that is scored."""

    def scored_fraction(self) -> float:
        """Return the logits of a token of the batch, in units of the vocabulary's size, for planning memory."""
        return (
            self.scored_share() * sum(self.term(name).logits_per_slot() for name in self.terms) / self.vocabulary.size
        )

    def flops_per_token(self, config: EncoderConfig, sequence_length: int) -> float:
        """Return the FLOPs of a training step per token of the batch: the encoder's, and those of every term.

        By default hidden states are asked for at the scored positions alone. An objective that reads in another way
        overrides `reading_flops`.
        """
        rate = self.scored_share()
        terms = sum(self.term(name).flops_per_token(config, sequence_length, rate) for name in self.terms)
        return self.reading_flops(config, sequence_length) + terms

    def reading_flops(self, config: EncoderConfig, sequence_length: int) -> float:
        """Return the FLOPs of `read`, forward and backward, per token of the batch."""
        return flops_per_token(config, sequence_length, 0.0, wanted_fraction=self.scored_share())

    def forecast(self, config: EncoderConfig, sequence_length: int, flops_per_second: float) -> list[tuple[str, str]]:
        """Return what `maskwright plan` says of the work besides training steps, as names and values."""
        rate = self.scored_share()
        return [
            line
            for name in self.terms
            for line in self.term(name).forecast(config, sequence_length, rate, flops_per_second)
        ]

    # --- help for sub-classes

    def is_text(self, packed: PackedBatch) -> Tensor:
        """Return which tokens are text: bool [T], false for special tokens and padding."""
        return ~self._is_special_V[packed.token_ids_T]

    def asked(
        self, packed: PackedBatch, corruption: Corruption, generator: torch.Generator, progress: float
    ) -> CorruptedBatch:
        """Return the batch with every term's question; see `Term.ask`."""
        questions = {name: self.term(name).ask(packed, corruption, generator, progress) for name in self.terms}
        return CorruptedBatch(corruption.input, questions, packed, groups_of(questions))
