"""The contract of an objective: how it corrupts a packed batch, and what it makes of the encoder's answer.

To add one, write one file beside this one (`my_idea.py` with the class `MyIdea`), or anywhere else and name it
"module:Class" in a recipe. CONTRIBUTING.md shows a complete one in ten lines.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from maskwright.core.batches import UNUSED, CorruptedBatch, EncoderInput, LossTerm, PackedBatch
from maskwright.core.options import Options
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import Corpus
from maskwright.encoders.encoder import Encoder, EncoderConfig
from maskwright.encoders.flops import flops_per_token
from maskwright.heads.token_head import TokenHead
from maskwright.masking.phase_start import PhaseStart


class ObjectiveConfig(Options):
    """Base of an objective's options: frozen, unknown keys refused."""

    @property
    def needs_phase_before(self) -> bool:
        """Whether the phase can't be the first of a recipe, because it builds on what the one before left."""
        return False


class Objective(nn.Module, ABC):
    """What a model is asked to do. Heads, teachers and decoders are sub-modules of it.

    Attributes:
        Config: class of the options, a subclass of `ObjectiveConfig`.
        citation: where the idea comes from; goes into reports and model cards.
        vocabulary_head: the model's head over the vocabulary. It belongs to the model, is handed to every objective
            of a run and exported with the encoder; an objective that does not predict tokens leaves it alone.
        needs_begin: whether `begin` must have been called before `corrupt` and `loss`.
        masks_at_input: whether the encoder's input has [MASK] in it, so that it learns to read it; where it has not,
            `reader` is what can.
    """

    needs_begin: bool = False
    masks_at_input: ClassVar[bool] = True
    Config: ClassVar[type[ObjectiveConfig]] = ObjectiveConfig
    citation: ClassVar[str]

    def __init__(
        self, config: ObjectiveConfig, encoder: Encoder, vocabulary: Vocabulary, vocabulary_head: TokenHead
    ) -> None:
        """Keep what every objective needs. Subclasses make their own heads here.

        Args:
            config: validated options.
            encoder: only its configuration may be used here; it is given again to `loss`, and is not a sub-module.
            vocabulary: size and special tokens.
            vocabulary_head: shared with the run's other objectives.
        """
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.vocabulary_head = vocabulary_head
        is_special_V = torch.zeros(vocabulary.size, dtype=torch.bool)
        is_special_V[list(vocabulary.special_ids)] = True
        self._is_special_V = is_special_V  # on the host, where `corrupt` runs; not a buffer

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

    def require_means(self, corpus: Corpus, sequence_length: int, available_bytes: int) -> None:
        """Refuse before a run's first step what `begin` would refuse after hours of phases before. By default nothing.

        Args:
            corpus: of the run.
            sequence_length: of the phase.
            available_bytes: memory of the device.

        Raises:
            CorpusError: the text is too short.
            MemoryShortage: what `begin` makes does not fit.
            RecipeError: what it would read does not go with the encoder.
        """

    def initialize(self, generator: torch.Generator) -> None:
        """Draw the weights of the objective's own heads anew; without heads of its own there are none.

        Called once, when the model of a run is built, with a generator that depends on the run's seed.
        """

    def reader(self, encoder: Encoder) -> nn.Module:
        """Return what reads masked text as `loss` does, for evaluation to predict with; by default the encoder.

        It is called as the encoder is, with the tokens, positions, segments and layout of a batch in which masks stand
        for tokens, and positions; it returns the states that the vocabulary head takes.
        """
        return encoder

    @property
    def uses_vocabulary_head(self) -> bool:
        """Whether `loss` runs the vocabulary head; where it does not, the phase leaves the head as it was."""
        return True

    def is_text(self, batch: PackedBatch) -> Tensor:
        """Return which tokens are text: bool [T], false for special tokens and padding."""
        return ~self._is_special_V[batch.token_ids_T]

    @abstractmethod
    def scored_fraction(self) -> float:
        """Return the largest share of tokens that the vocabulary head will see, for planning cost and memory.

        Logits of other heads count as so many more: half as many logits as the vocabulary has tokens are half a share.
        """

    def flops_per_token(self, config: EncoderConfig, sequence_length: int) -> float:
        """Return the FLOPs of a training step per token of the batch; by default the encoder's and the head's.

        By default hidden states are asked for at the scored places alone.

        An objective with heads, teachers or decoders of its own, or that leaves tokens out, says its own.
        """
        scored = self.scored_fraction()
        return flops_per_token(config, sequence_length, scored, wanted_fraction=scored)

    def begin(self, encoder: Encoder, start: PhaseStart) -> None:
        """Make ready for the phase: read or make what it needs beside the weights. By default nothing.

        Called in every process that goes on with the phase, before its first step there, and after a checkpoint was
        saved. Making may take long: it shows progress and goes on where it was, should it be killed.
        """

    def complete(self, encoder: Encoder, batch: CorruptedBatch) -> CorruptedBatch:
        """Add to a batch, on the device, what takes a forward pass but no gradient: a teacher's targets, for example.

        Called before `loss`, outside the compiled graph and outside autocast. By default the batch as it is.
        """
        return batch

    def after_step(self, encoder: Encoder, num_steps: int) -> None:
        """Do what is due between two steps, such as refreshing statistics kept in buffers. By default nothing.

        Called in every process after an update, before a checkpoint is saved.

        Args:
            encoder: as the update left it.
            num_steps: of the phase that were made.
        """

    def forecast(self, config: EncoderConfig, sequence_length: int, flops_per_second: float) -> list[tuple[str, str]]:
        """Return what `maskwright plan` says of the work beside training steps, as names and values. By default none.

        Args:
            config: of the encoder.
            sequence_length: of the phase.
            flops_per_second: that training is expected to reach.
        """
        return []

    @abstractmethod
    def corrupt(self, batch: PackedBatch, generator: torch.Generator, progress: float) -> CorruptedBatch:
        """Corrupt a batch, on the host.

        Pure: the same arguments give the same result, and `batch` is not changed. Every shape of the result depends
        on the number of tokens, the options and `progress` alone.

        Args:
            batch: clean tokens, on the CPU.
            generator: a function of (seed, step, micro-batch), never of the rank.
            progress: of the phase, in [0, 1]; drives schedules.
        """

    @abstractmethod
    def loss(self, encoder: Encoder, batch: CorruptedBatch) -> tuple[LossTerm, ...]:
        """Return the terms of the loss, as sums. Runs on the device; one graph under `torch.compile`."""


def scored_batch(
    batch: PackedBatch, input_ids_T: Tensor, positions: Tensor, num_slots: int, term_counts: Mapping[str, int]
) -> CorruptedBatch:
    """Make a `CorruptedBatch` of a fixed number of scored slots.

    Args:
        batch: the clean batch.
        input_ids_T: int64 [T], the corrupted tokens.
        positions: int64, at most `num_slots` scored positions.
        num_slots: M; slots beyond the positions are unused.
        term_counts: see `CorruptedBatch`.
    """
    scored_positions_M = torch.zeros(num_slots, dtype=torch.int64)
    target_ids_M = torch.full((num_slots,), UNUSED, dtype=torch.int64)
    scored_positions_M[: len(positions)] = positions
    target_ids_M[: len(positions)] = batch.token_ids_T[positions]
    counts = {name: torch.tensor(count) for name, count in term_counts.items()}
    return CorruptedBatch(EncoderInput(input_ids_T, batch.layout), scored_positions_M, target_ids_M, batch, counts)


def scored_states(encoder: Encoder, batch: CorruptedBatch) -> Tensor:
    """Return the encoder's hidden states at the scored positions, float [M, D]; what only others need is left out."""
    return encoder(batch.input, batch.scored_positions_M)
