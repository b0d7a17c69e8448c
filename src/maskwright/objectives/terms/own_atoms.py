"""Latent semantics without a teacher: the codes of the student's own states over a dictionary that is learned at times.

Source: the teacher-free variant in the reference implementation of Berend 2023, 2023.findings-acl.876: codes of the
    student's states at the masked input, a dictionary every 10,000 updates, the other terms alone before the first.
Departures: those of `semantics/self_dictionary.py`.
"""

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from maskwright.batching.segments import Segments
from maskwright.core.batches import CorruptedBatch, LossTerm, PackedBatch, Question
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import Corpus
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import Encoder
from maskwright.heads.latent import LatentHead
from maskwright.heads.model_heads import ModelHeads
from maskwright.heads.token_head import TokenHead
from maskwright.masking.corruption import Corruption
from maskwright.masking.phase_start import PhaseStart
from maskwright.objectives.terms.atoms import divergence
from maskwright.objectives.terms.base import Hide, Term, TermConfig
from maskwright.semantics.costs import TeachingCosts
from maskwright.semantics.make_dictionary import check_resources
from maskwright.semantics.phase_teacher import DictionaryOptions, require_layer
from maskwright.semantics.self_dictionary import SelfDictionary
from maskwright.semantics.targets import CodingOptions, TopTargets


class OwnAtomsConfig(TermConfig):
    """Options of `own_atoms`."""

    layer: int = Field(
        default=-1,
        description="whose states are coded: 0 is the embedding's output, -1 the last layer, -2 the one before",
    )
    dictionary: DictionaryOptions = Field(default=DictionaryOptions(), description="how the atoms are learned")
    coding: CodingOptions = Field(default=CodingOptions(), description="how states become targets")
    target: Literal["codes", "strongest_atom"] = Field(
        default="codes", description="codes: distributions over atoms; strongest_atom: the strongest alone"
    )
    refresh_steps: int = Field(
        default=10_000, ge=1, description="steps between two dictionaries; before the first the term counts nothing"
    )

    @model_validator(mode="after")
    def _dictionary_is_learned(self) -> Self:
        if self.dictionary.folder:
            raise ValueError("own_atoms learns its dictionary, so dictionary.folder has no meaning")
        return self


class OwnAtoms(Term):
    """Kullback-Leibler divergence from the sparse codes of the student's own states."""

    citation = "Berend 2023, Masked Latent Semantic Modeling, Findings of ACL, 2023.findings-acl.876"
    metrics = ("agreement",)
    follows_model = True
    counts_steps = True  # refreshes by steps of the phase
    needs_begin = True
    Config = OwnAtomsConfig

    def __init__(self, config: OwnAtomsConfig, encoder: Encoder, vocabulary: Vocabulary) -> None:
        """See `Term`.

        Raises:
            RecipeError: the encoder has no such layer.
        """
        super().__init__(config, encoder, vocabulary)
        self.config: OwnAtomsConfig = config
        num_layers = encoder.config.num_layers
        require_layer(config.layer, num_layers)
        self._width = encoder.config.hidden_size
        self.head = LatentHead(encoder.config, config.dictionary.num_atoms)
        self.dictionary = SelfDictionary(
            self._width, config.layer % (num_layers + 1), config.dictionary, config.coding, config.refresh_steps
        )

    def initialize(self, generator: torch.Generator) -> None:
        self.head.initialize(generator)

    def check_resources(self, corpus: Corpus, sequence_length: int, available_bytes: int) -> None:
        """See `Term`: atoms that the text or the memory has no room for are refused."""
        options = self.config.dictionary
        num_tokens = Segments.of(corpus.split("train").document_lengths, sequence_length).num_tokens
        check_resources(options.num_atoms, options.num_states, self._width, num_tokens, available_bytes)

    def begin(self, encoder: Encoder, vocabulary_head: TokenHead, start: PhaseStart, hide: Hide) -> None:
        """Go on with the dictionary of the checkpoint, if there is one.

        Raises:
            RecipeError: the phase ends before there would be a dictionary.
        """
        self._hide = hide
        self.dictionary.begin(start)

    def ask(self, packed: PackedBatch, corruption: Corruption, generator: torch.Generator, progress: float) -> Question:
        """See `Term`; `complete` fills in the targets."""
        targets = TopTargets.none(len(corruption.positions_M))
        return Question(corruption.positions_M, targets, torch.tensor(len(corruption.positions)))

    def complete(self, encoder: Encoder, batch: CorruptedBatch, question: Question) -> Question:
        """Let the student read its corrupted input."""
        positions = question.positions_M[: int(question.count)]
        targets = self.dictionary.targets(encoder, batch.input, positions).in_slots(len(question.positions_M))
        targets = targets.strongest() if self.config.target == "strongest_atom" else targets
        return Question(question.positions_M, targets, question.count)

    def loss(self, x_MD: Tensor, question: Question, heads: ModelHeads) -> LossTerm:
        """See `Term`; how often the strongest atoms agree is reported as well."""
        return divergence(self, self.head, x_MD, question)

    def after_step(self, encoder: Encoder, num_steps: int) -> None:
        """Learn the dictionary again when it is due."""
        self.dictionary.after_step(encoder, num_steps, self._hide)

    def logits_per_slot(self) -> int:
        return self.head.num_atoms

    def flops_per_token(self, config: EncoderConfig, sequence_length: int, rate: float) -> float:
        """See `Term`: the head, and the student's reading and coding of its own input."""
        costs = TeachingCosts.of(config, self.config.layer, sequence_length, self.head.num_atoms, self.config.coding)
        return self.head.flops_per_token(rate) + costs.reading_flops + rate * costs.coding_flops
