"""Masked latent semantic modelling: predict not which token was hidden but what it meant, as a mixture of latent atoms.

A teacher reads the clean text; the sparse codes of its hidden states over a dictionary of atoms, made to sum to 1, are
the distributions that the student learns at the scored positions. Targets depend on the clean text alone, so they are
computed once and kept (`targets: cached`), or made as the student trains (`online`).

Source: Berend 2023, 2023.findings-acl.876 (the objective, hard targets, distillation and teacher-free training);
    Berend 2023, Better Together, BabyLM challenge at CoNLL (beside MLM on the same positions).
Departures: exact codes by default, where the reference takes 100 steps of FISTA; a head of its own for the atoms;
    mlm_weight is 1 by default, so that an exported model can fill masks; docs/mlsm.md has the rest.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.batching.segments import Segments
from maskwright.core.batches import UNUSED, CorruptedBatch, LossTerm, PackedBatch
from maskwright.core.errors import CheckpointError
from maskwright.core.log import warn
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import Corpus
from maskwright.encoders.encoder import Encoder, EncoderConfig, no_such_layer
from maskwright.encoders.flops import flops_per_token
from maskwright.heads.latent import LatentHead
from maskwright.heads.token_head import TokenHead
from maskwright.masking.masking import (
    Masked,
    Masking,
    require_masks_and_text,
    require_nothing_to_learn,
)
from maskwright.masking.phase_start import PhaseStart
from maskwright.models.teacher import Teacher
from maskwright.objectives.base import Objective, scored_batch, scored_states
from maskwright.semantics.costs import TeachingCosts
from maskwright.semantics.dictionary import Dictionary
from maskwright.semantics.make_dictionary import require_means
from maskwright.semantics.options import ITSELF, MlsmOptions
from maskwright.semantics.phase_teacher import (
    PHASE_BEFORE,
    Taught,
    dictionary_of_phase,
    require_teacher,
    require_useful_penalty,
    teacher_of_phase,
)
from maskwright.semantics.self_dictionary import SelfDictionary
from maskwright.semantics.target_cache.build_cache import build_target_cache, cache_folder, target_key
from maskwright.semantics.target_cache.cache import TargetCache, token_numbers
from maskwright.semantics.targets import TargetCoder, TopTargets


@dataclass(frozen=True)
class LatentBatch(CorruptedBatch):
    """A corrupted batch with the distributions over atoms at its scored positions, all-zero in unused slots."""

    targets: TopTargets


@dataclass(frozen=True)
class DistilledBatch(CorruptedBatch):
    """A corrupted batch with the teacher's logits at its scored positions; those of unused slots don't count."""

    teacher_logits_MV: Tensor


class Mlsm(Objective):
    """Masked latent semantic modelling: a student learns a teacher's sparse codes, with or without MLM beside it."""

    vocabulary_head: TokenHead
    citation = "Berend 2023, Masked Latent Semantic Modeling, Findings of ACL, 2023.findings-acl.876"
    needs_begin = True

    class Config(MlsmOptions):
        """Options of `mlsm`."""

    def __init__(self, config: Config, encoder: Encoder, vocabulary: Vocabulary, vocabulary_head: TokenHead) -> None:
        """See `Objective`.

        Raises:
            RecipeError: the encoder has no such layer; the teacher is not there, or has another tokenizer.
            CheckpointError: there is no dictionary in the folder.
        """
        super().__init__(config, encoder, vocabulary, vocabulary_head)
        self.config: Mlsm.Config = config
        self._masking = Masking(config, vocabulary)
        self._teacher: Teacher | None = None
        self._coder: TargetCoder | None = None
        self._cache: TargetCache | None = None
        self._width = encoder.config.hidden_size
        num_layers = encoder.config.num_layers
        if config.teacher in (PHASE_BEFORE, ITSELF) and not -num_layers - 1 <= config.layer <= num_layers:
            raise no_such_layer(config.layer, num_layers)
        if config.teacher not in (PHASE_BEFORE, ITSELF):
            require_teacher(config.teacher, vocabulary)
        self.num_atoms = 0 if config.target == "teacher_tokens" else config.dictionary.count_atoms()
        self.latent_head = LatentHead(encoder.config, self.num_atoms) if self.num_atoms else None
        self.own_dictionary = None
        if config.teacher == ITSELF:
            self.own_dictionary = SelfDictionary(
                encoder.config.hidden_size,
                config.layer % (num_layers + 1),
                config.dictionary,
                config.coding,
                config.refresh_steps,
            )

    @classmethod
    def require_fit(
        cls, options: Config, encoder_class: type[Encoder], encoder: EncoderConfig, sequence_length: int
    ) -> None:
        """See `Objective`: sequences have visible and masked tokens, the strategy nothing to learn from them."""
        require_masks_and_text(options, sequence_length)
        require_nothing_to_learn(options)

    def require_means(self, corpus: Corpus, sequence_length: int, available_bytes: int) -> None:
        """Refuse atoms that the text or the memory has no room for; see `Objective`."""
        options = self.config.dictionary
        if self.num_atoms and options.folder is None:
            num_tokens = Segments.of(corpus.split("train").document_lengths, sequence_length).num_tokens
            require_means(options.num_atoms, options.num_states, self._width, num_tokens, available_bytes)

    def initialize(self, generator: torch.Generator) -> None:
        """Draw the head over atoms anew."""
        if self.latent_head is not None:
            self.latent_head.initialize(generator)

    @property
    def uses_vocabulary_head(self) -> bool:
        """Whether there is MLM beside, or the targets are tokens."""
        return self.config.mlm_weight > 0 or self.latent_head is None

    def scored_fraction(self) -> float:
        """The highest mask rate, times the logits of both heads in units of the vocabulary."""
        used = self.vocabulary.size * self.uses_vocabulary_head + self.num_atoms
        return self.config.highest_rate * used / self.vocabulary.size

    def begin(self, encoder: Encoder, start: PhaseStart) -> None:
        """Make or read the teacher, the dictionary and the cache of targets.

        Raises:
            RecipeError: the teacher has another tokenizer or no such layer; lambda is so large that codes are zero.
            CorpusError: there is not enough text to learn the atoms from.
            CheckpointError: the dictionary is not the teacher's; or the phase was begun with others.
        """
        self._masking.strategy.begin(start)
        if not self.uses_vocabulary_head:
            warn("mlm_weight is 0: the vocabulary head is not trained, so the model will not be able to fill masks")
        if self.own_dictionary is not None:
            self.own_dictionary.begin(start)
            return
        config = self.config
        teacher = teacher_of_phase(config.teacher, config.layer, encoder, self.vocabulary_head, self.vocabulary, start)
        self._teacher = self._coder = self._cache = None
        if config.target == "teacher_tokens":
            Taught(teacher_sha256=teacher.sha256, layer=teacher.layer, dictionary_sha256=None).keep(start)
            self._teacher = teacher
            return
        dictionary = dictionary_of_phase(config.dictionary, config.coding.penalty, teacher, start)
        self._require_same_number_of_atoms(dictionary)
        coder = TargetCoder(teacher, dictionary, config.coding)
        Taught(teacher_sha256=teacher.sha256, layer=teacher.layer, dictionary_sha256=dictionary.sha256).keep(start)
        if config.targets == "online":
            require_useful_penalty(coder, start)
            self._coder = coder
            return
        corpus, length = start.corpus, start.sequence_length
        key = target_key(corpus, teacher, dictionary, config.coding, length)
        folder = cache_folder(corpus, key)
        if start.is_first_rank:
            build_target_cache(folder, corpus, teacher, dictionary, config.coding, length, start.micro_batch_tokens)
        start.wait_for_all()
        self._cache = TargetCache.open(folder, key, verify=False)
        self._first_tokens = corpus.split("train").first_tokens

    def _require_same_number_of_atoms(self, dictionary: Dictionary) -> None:
        if len(dictionary.atoms_AD) != self.num_atoms:
            raise CheckpointError(
                f"the dictionary has {len(dictionary.atoms_AD):,} atoms, the head that was made for it "
                f"{self.num_atoms:,}",
                "the dictionary that the run was started with",
            )

    def corrupt(self, batch: PackedBatch, generator: torch.Generator, progress: float) -> CorruptedBatch:
        """Hide tokens as MLM does; look their targets up where these are cached."""
        masked = self._hide(batch, generator, progress)
        names = ["distillation" if self.latent_head is None else "mlsm", "agreement"]
        names += ["mlm"] if self.config.mlm_weight else []
        counts = dict.fromkeys(names, len(masked.positions))
        corrupted = scored_batch(batch, masked.input_ids_T, masked.positions, masked.num_slots, counts)
        if self._cache is None:
            return corrupted
        numbers_M = np.full(masked.num_slots, -1)
        numbers_M[: len(masked.positions)] = token_numbers(batch, masked.positions, self._first_tokens)
        return self._with_targets(corrupted, self._cache.lookup(numbers_M))

    def _hide(self, batch: PackedBatch, generator: torch.Generator, progress: float) -> Masked:
        return self._masking(batch, self.is_text(batch), generator, progress)

    def complete(self, encoder: Encoder, batch: CorruptedBatch) -> CorruptedBatch:
        """Let the teacher read the clean text, or the student the corrupted, where targets are made online."""
        if self._teacher is not None:
            logits_MV = self._teacher.logits(batch.clean, batch.scored_positions_M)
            return DistilledBatch(**vars(batch), teacher_logits_MV=logits_MV)
        is_used_M = batch.target_ids_M != UNUSED
        places = batch.scored_positions_M[is_used_M]
        if self._coder is not None:
            targets = self._coder.targets(batch.clean, places)
        elif self.own_dictionary is not None:
            targets = self.own_dictionary.targets(encoder, batch.input.token_ids_T, batch.clean, places)
        else:
            return batch
        return self._with_targets(batch, _in_slots(targets, is_used_M))

    def _with_targets(self, batch: CorruptedBatch, targets: TopTargets) -> LatentBatch:
        if self.config.target == "strongest_atom":
            targets = TopTargets(targets.atom_ids_MW[:, :1], (targets.weights_MW[:, :1] > 0).float())
        return LatentBatch(**vars(batch), targets=targets)

    def after_step(self, encoder: Encoder, num_steps: int) -> None:
        """Learn the dictionary of the student's own states anew where it is time."""
        if self.own_dictionary is not None:
            self.own_dictionary.after_step(encoder, num_steps, self._hide)

    def loss(self, encoder: Encoder, batch: CorruptedBatch) -> tuple[LossTerm, ...]:
        """Return KL divergence from the targets, agreement of the strongest, and MLM where it has a weight."""
        x_MD = scored_states(encoder, batch)
        if isinstance(batch, DistilledBatch):
            return self._distillation(x_MD, encoder, batch)
        assert isinstance(batch, LatentBatch) and self.latent_head is not None
        targets = batch.targets
        slots = self.latent_head.slot_losses(x_MD, targets.atom_ids_MW, targets.weights_MW)
        agrees_M = slots.is_correct_M & (targets.weights_MW[:, 0] > 0)
        terms = [
            self._term("mlsm", slots.total - entropy(targets), batch),
            self._term("agreement", agrees_M.sum().float(), batch),
        ]
        if self.config.mlm_weight:
            total = self.vocabulary_head.cross_entropy(x_MD, batch.target_ids_M, encoder.embedding_weight_VD)
            terms.append(self._term("mlm", total, batch))
        return tuple(terms)

    def _distillation(self, x_MD: Tensor, encoder: Encoder, batch: DistilledBatch) -> tuple[LossTerm, ...]:
        """Return the terms of `target: teacher_tokens`, from one run of the vocabulary head."""
        logits_MV = self.vocabulary_head(x_MD, encoder.embedding_weight_VD).float()
        is_used_M = batch.target_ids_M != UNUSED
        total = divergence_from_logits(logits_MV, batch.teacher_logits_MV, is_used_M)
        agrees_M = is_used_M & (logits_MV.detach().argmax(1) == batch.teacher_logits_MV.argmax(1))
        terms = [self._term("distillation", total, batch), self._term("agreement", agrees_M.sum().float(), batch)]
        if self.config.mlm_weight:
            total = F.cross_entropy(logits_MV, batch.target_ids_M, ignore_index=UNUSED, reduction="sum")
            terms.append(self._term("mlm", total, batch))
        return tuple(terms)

    def _term(self, name: str, total: Tensor, batch: CorruptedBatch) -> LossTerm:
        weight = {"agreement": 0.0, "mlm": self.config.mlm_weight}.get(name, 1.0)
        return LossTerm(name, total, batch.term_counts[name], weight)

    def flops_per_token(self, config: EncoderConfig, sequence_length: int) -> float:
        """Return the FLOPs of a training step per token: encoder, both heads, and targets that are made online.

        A teacher from a folder is counted as one like the student.
        """
        rate, width = self.config.highest_rate, config.hidden_size
        total = flops_per_token(config, sequence_length, rate if self.uses_vocabulary_head else 0.0, rate)
        if self.latent_head is None:
            return total + flops_per_token(config, sequence_length, rate) / 3
        total += 6 * rate * (width * width + width * self.num_atoms)
        if self.config.targets == "cached":
            return total
        costs = self._teaching_costs(config, sequence_length)
        return total + costs.reading_flops + rate * costs.coding_flops

    def _teaching_costs(self, config: EncoderConfig, sequence_length: int) -> TeachingCosts:
        return TeachingCosts.of(config, self.config.layer, sequence_length, self.num_atoms, self.config.coding)

    def forecast(self, config: EncoderConfig, sequence_length: int, flops_per_second: float) -> list[tuple[str, str]]:
        """Say what a cache of targets would take, and when it pays off."""
        if self.latent_head is None or self.own_dictionary is not None:
            return []
        costs = self._teaching_costs(config, sequence_length)
        minutes = 1e6 * (costs.reading_flops + costs.coding_flops) / flops_per_second / 60
        is_cached = self.config.targets == "cached"
        return [
            (
                "  targets",
                f"{self.config.targets}; a cache takes about {costs.token_bytes:,.0f} MB and {minutes:,.1f} min for a "
                f"million tokens, and pays off after {costs.passes_to_pay_off(self.config.highest_rate):.1f} passes "
                f"over the text{'' if is_cached else ' (targets: cached)'}",
            )
        ]


def entropy(targets: TopTargets) -> Tensor:
    """Return the sum of the entropies of target distributions: what makes a divergence of a cross-entropy."""
    return -torch.xlogy(targets.weights_MW, targets.weights_MW).sum()


def divergence_from_logits(logits_MV: Tensor, teacher_logits_MV: Tensor, is_used_M: Tensor) -> Tensor:
    """Return the sum over the rows in use of KL(softmax(teacher's logits) || softmax(logits)), temperature 1."""
    log_probabilities_MV, teacher_MV = logits_MV.log_softmax(1), teacher_logits_MV.log_softmax(1)
    divergence_M = F.kl_div(log_probabilities_MV, teacher_MV, reduction="none", log_target=True).sum(1)
    return torch.where(is_used_M, divergence_M, 0.0).sum()


def _in_slots(targets: TopTargets, is_used_M: Tensor) -> TopTargets:
    """Spread targets of the slots in use over all slots."""
    shape = len(is_used_M), targets.weights_MW.shape[1]
    atom_ids_MW, weights_MW = targets.atom_ids_MW.new_zeros(shape), targets.weights_MW.new_zeros(shape)
    atom_ids_MW[is_used_M], weights_MW[is_used_M] = targets.atom_ids_MW, targets.weights_MW
    return TopTargets(atom_ids_MW, weights_MW)
