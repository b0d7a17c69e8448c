"""A student that is its own teacher: codes of its own hidden states, over a dictionary that is learned again at times.

Source: the teacher-free variant in the reference implementation of Berend 2023, 2023.findings-acl.876: codes of the
    student's states at the masked input, a dictionary every 10,000 updates, MLM alone before the first.
Departures: the states that a dictionary is learned from are those of the student as it is then, over text drawn from
    the whole corpus; a new dictionary begins with the atoms of the one before, so that atoms keep their numbers; states
    are computed without dropout.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from maskwright.batching.row_plan import NUM_SPECIALS
from maskwright.batching.segments import Segments
from maskwright.core.batches import EncoderInput, PackedBatch
from maskwright.core.errors import CorpusError, RecipeError
from maskwright.core.log import progress, say
from maskwright.core.randomness import derived_seed, numpy_generator, torch_generator
from maskwright.encoders.encoder import Encoder
from maskwright.masking.corruption import Corruption
from maskwright.masking.phase_start import PhaseStart
from maskwright.models.evaluation_mode import evaluation_mode
from maskwright.models.teacher import unit_rows
from maskwright.semantics.phase_teacher import DictionaryOptions
from maskwright.semantics.reservoir import Reservoir
from maskwright.semantics.sparse_coding.codes import SparseCoder
from maskwright.semantics.sparse_coding.dictionary_learning import DictionaryLearner, learn_dictionary
from maskwright.semantics.targets import CodingOptions, TopTargets, top_targets

Hide = Callable[[PackedBatch, torch.Generator, float], Corruption]
"""Corrupts a batch at a progress of the phase."""


class SelfDictionary(nn.Module):
    """The atoms of the student's own states, in buffers, so that checkpoints hold them.

    Attributes:
        atoms_AD: float32 [A, D], zero before the first dictionary.
        is_learned: bool scalar.
    """

    atoms_AD: Tensor
    is_learned: Tensor

    def __init__(
        self,
        width: int,
        layer: int,
        options: DictionaryOptions,
        coding: CodingOptions,
        refresh_steps: int,
    ) -> None:
        """Begin without atoms.

        Args:
            width: of the student's states, D.
            layer: whose states are coded, from 0.
            options: how a dictionary is made.
            coding: how states become targets.
            refresh_steps: steps between two dictionaries.
        """
        super().__init__()
        self._layer, self._options, self._coding, self._refresh_steps = layer, options, coding, refresh_steps
        self._coder: SparseCoder | None = None
        self._start: PhaseStart | None = None
        self.register_buffer("atoms_AD", torch.zeros(options.num_atoms, width))
        self.register_buffer("is_learned", torch.tensor(False))

    def begin(self, start: PhaseStart) -> None:
        """Take up the phase; the atoms are those of the checkpoint, if there are any.

        Raises:
            RecipeError: the phase ends before there would be a dictionary.
        """
        if self._refresh_steps >= start.num_steps:
            raise RecipeError(
                f"refresh_steps is {self._refresh_steps:,}, and the phase ends after {start.num_steps:,} steps: there "
                "would never be a dictionary",
                "a fraction of the phase's steps",
                "lower refresh_steps",
            )
        self._start, self._coder = start, None

    @torch.no_grad()
    def targets(self, encoder: Encoder, input: EncoderInput, positions_M: Tensor) -> TopTargets:
        """Return the targets of some positions: codes of what the student makes of its corrupted input there.

        All-zero before there is a dictionary.
        """
        assert self._start is not None
        width = min(self._coding.keep_atoms, len(self.atoms_AD))
        if not bool(self.is_learned):
            shape = len(positions_M), width
            zeros = torch.zeros(shape, device=positions_M.device)
            return TopTargets(zeros.long(), zeros)
        if self._coder is None:
            coding = self._coding
            self._coder = SparseCoder(
                self.atoms_AD, coding.penalty, coding.solver, coding.tolerance, coding.num_iterations
            )
        codes_MA, _ = self._coder.encode(self._states(encoder, input)[positions_M])
        return top_targets(codes_MA, width)

    def after_step(self, encoder: Encoder, num_steps: int, hide: Hide) -> None:
        """Relearn the dictionary when it is time; the first process learns, the others take it over.

        Args:
            encoder: the student.
            num_steps: of the phase that were made.
            hide: corrupts a batch as the objective does.
        """
        start = self._start
        assert start is not None
        if num_steps % self._refresh_steps or num_steps == start.num_steps:
            return
        if start.ranks.is_first:
            atoms_AD = self._learn(encoder, num_steps, hide, start)
            self.atoms_AD.copy_(atoms_AD)
        start.ranks.broadcast_(self.atoms_AD)
        self.is_learned.fill_(True)
        self._coder = None

    def _learn(self, encoder: Encoder, num_steps: int, hide: Hide, start: PhaseStart) -> Tensor:
        options = self._options
        seed = derived_seed(start.seed, "self_dictionary", num_steps)
        sample_ND = self._sample(encoder, num_steps / start.num_steps, hide, start, seed)
        if len(sample_ND) < options.num_atoms:
            raise CorpusError(
                f"the student's masked tokens give {len(sample_ND):,} hidden states to learn {options.num_atoms:,} "
                "atoms from",
                "at least as many states as atoms; 20 times as many are better",
                "raise dictionary.num_tokens, give more text, or ask for fewer atoms",
            )
        learner = DictionaryLearner(options.learning(self._coding.penalty), sample_ND, seed, str(start.device))
        if bool(self.is_learned):
            learner.atoms_AD.copy_(self.atoms_AD)
        with progress("learning atoms (updates)", options.num_updates) as advance:
            atoms_AD = learn_dictionary(learner, sample_ND, lambda objective: advance(1))
        say(f"step {num_steps} of the phase: {len(atoms_AD):,} atoms learned from {len(sample_ND):,} states")
        return atoms_AD

    @torch.no_grad()
    def _sample(self, encoder: Encoder, progressed: float, hide: Hide, start: PhaseStart, seed: int) -> Tensor:
        """Return states of norm 1 at hidden positions of text drawn from the corpus, [N, D] on the CPU."""
        split, vocabulary = start.corpus.split("train"), start.corpus.vocabulary
        segments = Segments.of(split.document_lengths, start.sequence_length)
        segments = segments.sample(self._options.num_tokens, numpy_generator(seed, "text"))
        reservoir = Reservoir(min(self._options.num_states, segments.num_tokens), self.atoms_AD.shape[1], seed)
        batches = segments.batches(split, vocabulary, start.sequence_length, start.micro_batch_tokens)
        total = segments.num_tokens + NUM_SPECIALS * len(segments)
        with progress("reading hidden states (tokens)", total) as advance:
            for number, batch in enumerate(batches):
                hidden = hide(batch, torch_generator(seed, "masks", number), progressed)
                states_TD = self._states(encoder, hidden.input.to(start.device))
                reservoir.add(states_TD[hidden.positions.to(start.device)].cpu())
                advance(batch.num_real_tokens)
        return reservoir.sample_ND

    def _states(self, encoder: Encoder, input: EncoderInput) -> Tensor:
        assert self._start is not None
        device, dtype = self._start.device, self._start.dtype
        with evaluation_mode(encoder), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            x_TD = encoder.states_of_layer(self._layer, input)
        return unit_rows(x_TD)
