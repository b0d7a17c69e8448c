"""The function from a step's number to its corrupted micro-batches."""

from collections.abc import Callable

import torch

from maskwright.batching.samplers.base import Sampler
from maskwright.core.batches import CorruptedBatch
from maskwright.core.plug_in_field import Chosen
from maskwright.core.randomness import torch_generator
from maskwright.core.ranks import Ranks
from maskwright.corpus.corpus import Corpus
from maskwright.objectives.base import Objective
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

    def __init__(self, recipe: Recipe, corpus: Corpus, course: Course, ranks: Ranks) -> None:
        """Plan the streams.

        Args:
            recipe: gives sequence lengths, batch sizes and the seed.
            corpus: gives the training split.
            course: gives each step's phase and progress.
            ranks: all processes of the run; this one's micro-batches are returned.

        Raises:
            RecipeError: the micro-batches can't be shared out evenly.
        """
        self._recipe, self._course = recipe, course
        batches = recipe.batches
        self._numbers = [ranks.own_micro_batches(batch.num_micro_batches) for batch in batches]
        split, vocabulary = corpus.split("train"), corpus.vocabulary
        kinds = [row_kind(phase) for phase in recipe.phases]
        streams = {
            (length, sampler): sampler.plug_in(sampler.options, split, vocabulary, length, recipe.seed, number)
            for number, (length, sampler) in enumerate(dict.fromkeys(kinds))
        }
        self._streams = [streams[kind] for kind in kinds]
        self._rows_of_step = [
            batch.tokens // stream.row_length for batch, stream in zip(batches, self._streams, strict=True)
        ]
        self._earlier_of_kind = [
            [other for other in range(phase) if kinds[other] == kind] for phase, kind in enumerate(kinds)
        ]

    def numbers(self, phase: int) -> range:
        """Return the numbers of this rank's micro-batches in the global batch of a phase."""
        return self._numbers[phase]

    def __call__(self, step: int, objective: Objective) -> list[CorruptedBatch]:
        """Return the micro-batches of one step, on the host, corrupted by the objective of its phase."""
        position = self._course.position_of(step)
        phase = position.phase
        stream = self._streams[phase]
        num_rows = self._recipe.batches[phase].micro_batch_tokens // stream.row_length
        steps = self._course.phase_steps
        earlier_rows = sum(steps[other] * self._rows_of_step[other] for other in self._earlier_of_kind[phase])
        first_row = earlier_rows + position.step_in_phase * self._rows_of_step[phase]
        batches = []
        for number in self._numbers[phase]:
            packed = stream.batch(first_row + number * num_rows, num_rows)
            generator = torch_generator(self._recipe.seed, "corrupt", step, number)
            batches.append(objective.corrupt(packed, generator, position.phase_progress))
        return batches

    def num_epochs(self) -> float:
        """Return how often the run sees the training text."""
        return sum(
            steps * rows / stream.num_rows_per_epoch
            for steps, rows, stream in zip(self._course.phase_steps, self._rows_of_step, self._streams, strict=True)
        )


def ready_for(
    device: torch.device, make: Callable[[int], list[CorruptedBatch]]
) -> Callable[[int], list[CorruptedBatch]]:
    """Return what makes the same batches ready for a device: for a GPU, in pinned memory.

    Transfers from other memory first wait for all that the GPU was given to do.
    """
    if device.type != "cuda":
        return make
    return lambda step: [batch.pinned(device) for batch in make(step)]
