"""Latent semantics: predict not which token was hidden but what it meant, as a mixture of a dictionary's atoms.

A teacher reads the clean text; the sparse codes of its hidden states over a dictionary of atoms, made to sum to 1, are
the distributions that the student learns. Targets depend on the clean text alone, so they are computed once and kept
(`targets: cached`), or made as the student trains (`online`).

Source: Berend 2023, 2023.findings-acl.876 (the targets, and hard targets).
Departures: exact codes by default, where the reference takes 100 steps of FISTA; a head of its own for the atoms.
    docs/mlsm.md has the rest.
"""

from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from maskwright.batching.segments import Segments
from maskwright.core.batches import CorruptedBatch, LossTerm, PackedBatch, Question
from maskwright.core.errors import CheckpointError
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import Corpus
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import Encoder
from maskwright.heads.latent import LatentHead
from maskwright.heads.model_heads import ModelHeads
from maskwright.heads.token_head import TokenHead
from maskwright.masking.corruption import Corruption
from maskwright.masking.phase_start import PhaseStart
from maskwright.objectives.terms.base import Hide, Term, TermConfig
from maskwright.semantics.costs import TeachingCosts
from maskwright.semantics.make_dictionary import check_resources
from maskwright.semantics.phase_teacher import (
    PHASE_BEFORE,
    DictionaryOptions,
    PhaseTeacher,
    dictionary_of_phase,
    require_layer,
    require_teacher,
    require_useful_penalty,
    teacher_of_phase,
)
from maskwright.semantics.target_cache.build_cache import build_target_cache, cache_folder, target_key
from maskwright.semantics.target_cache.cache import TargetCache, token_numbers
from maskwright.semantics.targets import CodingOptions, TargetCoder, TopTargets, entropy


class AtomsConfig(TermConfig):
    """Options of `atoms`."""

    teacher: str = Field(
        default=PHASE_BEFORE,
        description="phase_before, or a folder with any masked encoder or run that has the text's tokenizer",
    )
    layer: int = Field(
        default=-1,
        description="whose states are coded: 0 is the embedding's output, -1 the last layer, -2 the one before",
    )
    dictionary: DictionaryOptions = Field(
        default=DictionaryOptions(), description="the atoms: how the phase learns them, or where they are"
    )
    coding: CodingOptions = Field(default=CodingOptions(), description="how states become targets")
    target: Literal["codes", "strongest_atom"] = Field(
        default="codes",
        description="codes: distributions over atoms; strongest_atom: the strongest alone (hard MLSM)",
    )
    targets: Literal["cached", "online"] = Field(
        default="cached",
        description="cached: computed once for the whole corpus, before the first step; online: as the student trains",
    )

    @property
    def needs_phase_before(self) -> bool:
        """Whether the teacher is what the phase before trained."""
        return self.teacher == PHASE_BEFORE

    @property
    def needs_documents(self) -> bool:
        """See `TermConfig`: targets of the cache are."""
        return self.targets == "cached"

    @model_validator(mode="after")
    def _dictionary_is_of_the_teacher(self) -> Self:
        if self.teacher == PHASE_BEFORE and self.dictionary.folder:
            raise ValueError(
                "dictionary.folder holds atoms of a teacher that is there already: name that teacher's folder, or "
                "leave dictionary.folder out, and they are learned from the phase before"
            )
        return self


class Atoms(Term):
    """Kullback-Leibler divergence from a teacher's sparse codes at the selected positions."""

    citation = "Berend 2023, Masked Latent Semantic Modeling, Findings of ACL, 2023.findings-acl.876"
    metrics = ("agreement",)
    needs_begin = True
    Config = AtomsConfig

    def __init__(self, config: AtomsConfig, encoder: Encoder, vocabulary: Vocabulary) -> None:
        """See `Term`.

        Raises:
            RecipeError: the teacher is not there, or has another tokenizer.
            CheckpointError: there is no dictionary in the folder.
        """
        super().__init__(config, encoder, vocabulary)
        self.config: AtomsConfig = config
        self._width = encoder.config.hidden_size
        self._coder: TargetCoder | None = None
        self._cache: TargetCache | None = None
        if config.teacher != PHASE_BEFORE:
            require_teacher(config.teacher, vocabulary)
        self.head = LatentHead(encoder.config, config.dictionary.count_atoms())

    def initialize(self, generator: torch.Generator) -> None:
        self.head.initialize(generator)

    def require_before(self, before: EncoderConfig) -> None:
        """See `Term`: a teacher has the layer whose states are coded."""
        if self.config.teacher == PHASE_BEFORE:
            require_layer(self.config.layer, before.num_layers)

    def check_resources(self, corpus: Corpus, sequence_length: int, available_bytes: int) -> None:
        """See `Term`: atoms that the text or the memory has no room for are refused."""
        options = self.config.dictionary
        if options.folder is None:
            num_tokens = Segments.of(corpus.split("train").document_lengths, sequence_length).num_tokens
            check_resources(options.num_atoms, options.num_states, self._width, num_tokens, available_bytes)

    def begin(self, encoder: Encoder, vocabulary_head: TokenHead, start: PhaseStart, hide: Hide) -> None:
        """Make or read the teacher, the dictionary and the cache of targets.

        Raises:
            RecipeError: the teacher has another tokenizer or no such layer; lambda is so large that codes are zero.
            CorpusError: there is not enough text to learn the atoms from.
            CheckpointError: the dictionary is not the teacher's; or the phase was begun with others.
        """
        config = self.config
        teacher = teacher_of_phase(config.teacher, config.layer, self.vocabulary, start)
        dictionary = dictionary_of_phase(config.dictionary, config.coding.penalty, teacher, start)
        if len(dictionary.atoms_AD) != self.head.num_atoms:
            raise CheckpointError(
                f"the dictionary has {len(dictionary.atoms_AD):,} atoms, the head that was made for it "
                f"{self.head.num_atoms:,}",
                "the dictionary that the run was started with",
            )
        coder = TargetCoder(teacher, dictionary, config.coding)
        PhaseTeacher(teacher_sha256=teacher.sha256, layer=teacher.layer, dictionary_sha256=dictionary.sha256).keep(
            start
        )
        self._coder, self._cache = coder, None
        if config.targets == "online":
            require_useful_penalty(coder, start)
            return
        corpus, length = start.corpus, start.sequence_length
        key = target_key(corpus, teacher, dictionary, config.coding, length)
        folder = cache_folder(corpus, key)
        if start.ranks.is_first:
            build_target_cache(folder, corpus, teacher, dictionary, config.coding, length, start.micro_batch_tokens)
        start.ranks.wait()
        self._cache = TargetCache.open(folder, key, verify=False)
        self._first_tokens = corpus.split("train").first_tokens

    def ask(self, packed: PackedBatch, corruption: Corruption, generator: torch.Generator, progress: float) -> Question:
        """See `Term`; targets are looked up where they are cached, and filled in by `complete` where they are not.

        Those of the training text are cached; of held-out text too little is read for that.
        """
        num_slots, num_selected = len(corruption.positions_M), torch.tensor(len(corruption.positions))
        if not self._is_cached(packed):
            return Question(corruption.positions_M, TopTargets.none(num_slots), num_selected)
        assert self._cache is not None
        numbers_M = np.full(num_slots, -1)
        numbers_M[: len(corruption.positions)] = token_numbers(packed, corruption.positions, self._first_tokens)
        return Question(corruption.positions_M, self._as_asked(self._cache.lookup(numbers_M)), num_selected)

    def complete(self, encoder: Encoder, batch: CorruptedBatch, question: Question) -> Question:
        """Let the teacher read the clean text, where targets are made as the student trains."""
        if self._is_cached(batch.clean):
            return question
        assert self._coder is not None, "begin comes first"
        positions = question.positions_M[: int(question.count)]
        targets = self._coder.targets(batch.clean, positions).in_slots(len(question.positions_M))
        return Question(question.positions_M, self._as_asked(targets), question.count)

    def _is_cached(self, packed: PackedBatch) -> bool:
        return self._cache is not None and packed.split == "train"

    def _as_asked(self, targets: TopTargets) -> TopTargets:
        return targets.strongest() if self.config.target == "strongest_atom" else targets

    def loss(self, x_MD: Tensor, question: Question, heads: ModelHeads) -> LossTerm:
        """See `Term`; how often the strongest atoms agree is reported as well."""
        return divergence(self, self.head, x_MD, question)

    def logits_per_slot(self) -> int:
        return self.head.num_atoms

    def flops_per_token(self, config: EncoderConfig, sequence_length: int, rate: float) -> float:
        """See `Term`: the head, and targets that are made online; a teacher is counted as one like the student."""
        total = self.head.flops_per_token(rate)
        if self.config.targets == "cached":
            return total
        costs = self._costs(config, sequence_length)
        return total + costs.reading_flops + rate * costs.coding_flops

    def _costs(self, config: EncoderConfig, sequence_length: int) -> TeachingCosts:
        return TeachingCosts.of(config, self.config.layer, sequence_length, self.head.num_atoms, self.config.coding)

    def forecast(
        self, config: EncoderConfig, sequence_length: int, rate: float, flops_per_second: float
    ) -> list[tuple[str, str]]:
        """Say what a cache of targets would take, and when it pays off."""
        costs = self._costs(config, sequence_length).of_a_cache(flops_per_second, rate)
        return [("  targets", f"{self.config.targets}; {costs}")]


def divergence(term: Term, head: LatentHead, x_MD: Tensor, question: Question) -> LossTerm:
    """Return the sum of KL(targets || predictions) as a term's answer, with how many strongest atoms agree."""
    targets = question.targets
    slots = head.slot_losses(x_MD, targets.atom_ids_MW, targets.weights_MW)
    agrees_M = slots.is_correct_M & (targets.weights_MW[:, 0] > 0)
    return term.answer(question, slots.total - entropy(targets), agreement=agrees_M.sum().float())
