"""The function from a step's number to its corrupted micro-batches."""

from maskwright.batching.samplers.base import Sampler
from maskwright.core.batches import CorruptedBatch
from maskwright.core.plug_in_field import Chosen
from maskwright.core.randomness import torch_generator
from maskwright.corpus.corpus import Corpus
from maskwright.training.model import Model
from maskwright.training.recipe.recipe import Recipe
from maskwright.training.recipe.sections import Phase
from maskwright.training.timeline import Course

RowKind = tuple[int, Chosen[Sampler]]
"""What rows are like: tokens in a row, and what chooses them."""


def row_kind(phase: Phase) -> RowKind:
    """Return what the rows of a phase are like."""
    return phase.sequence_length, phase.sampler


class StepBatches:
    """The function `step -> this rank's corrupted micro-batches`; pure, so it can be read ahead and resumed anywhere.

    The global batch of a step is fixed first: the next rows of the phase's stream, cut into micro-batches that are
    numbered over all ranks. Phases with rows of one kind share a stream: a later one goes on where the one before it
    ended, so that text is read again only after all of it was read. The mask of a micro-batch depends on its number,
    never on the rank (tests/resume/test_batch_stream.py).
    """

    def __init__(self, recipe: Recipe, corpus: Corpus, model: Model, course: Course, numbers: range) -> None:
        """Plan the streams.

        Args:
            recipe: gives sequence lengths, batch sizes and the seed.
            corpus: gives the training split.
            model: gives the objectives.
            course: gives each step's phase and progress.
            numbers: this rank's micro-batches.
        """
        self._recipe, self._course, self.numbers = recipe, course, numbers
        self._objectives = model.objectives
        split, vocabulary = corpus.split("train"), corpus.vocabulary
        kinds = [row_kind(phase) for phase in recipe.phases]
        streams = {
            (length, sampler): sampler.plug_in(sampler.options, split, vocabulary, length, recipe.seed, number)
            for number, (length, sampler) in enumerate(dict.fromkeys(kinds))
        }
        self._streams = [streams[kind] for kind in kinds]
        self._earlier_steps = [
            sum(course.phase_steps[other] for other in range(phase) if kinds[other] == kind)
            for phase, kind in enumerate(kinds)
        ]

    def __call__(self, step: int) -> list[CorruptedBatch]:
        """Return the micro-batches of one step, on the host."""
        position = self._course.position_of(step)
        return [
            self.micro_batch(position.phase, position.step_in_phase, position.phase_progress, number, step)
            for number in self.numbers
        ]

    def micro_batch(
        self, phase: int, step_in_phase: int, phase_progress: float, number: int, step: int
    ) -> CorruptedBatch:
        """Return one corrupted micro-batch; see `StepPosition` for the arguments."""
        batch, stream = self._recipe.batch, self._streams[phase]
        rows_per_micro_batch = batch.micro_batch_tokens // stream.row_length
        first_row = (self._earlier_steps[phase] + step_in_phase) * (batch.tokens // stream.row_length)
        packed = stream.batch(first_row + number * rows_per_micro_batch, rows_per_micro_batch)
        generator = torch_generator(self._recipe.seed, "corrupt", step, number)
        return self._objectives[phase].corrupt(packed, generator, phase_progress)

    def num_epochs(self, phase: int, num_steps: int) -> float:
        """Return how often a phase of `num_steps` steps sees the training text."""
        stream = self._streams[phase]
        return num_steps * (self._recipe.batch.tokens // stream.row_length) / stream.num_rows_per_epoch
