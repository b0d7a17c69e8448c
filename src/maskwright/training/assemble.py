"""Builds what a recipe names: encoder, heads and objectives as one model, and the streams of batches of its phases."""

from dataclasses import dataclass

from torch import Tensor, nn

from maskwright.batching.order import RowStream
from maskwright.core.batches import CorruptedBatch
from maskwright.core.randomness import torch_generator
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import Corpus
from maskwright.encoders import build_encoder
from maskwright.encoders.build import require_vocabulary
from maskwright.encoders.encoder import Encoder
from maskwright.heads.build import build_vocabulary_head
from maskwright.heads.token_head import TokenHead
from maskwright.objectives.base import Objective
from maskwright.training.course import Course
from maskwright.training.recipe import Recipe, objective_of
from maskwright.training.sections import Phase


@dataclass
class Model:
    """Everything that is trained.

    Attributes:
        encoder: shared by all phases.
        vocabulary_head: likewise; exported with the encoder.
        objectives: one a phase; phases with the same objective and options share one.
    """

    encoder: Encoder
    vocabulary_head: TokenHead
    objectives: list[Objective]

    def root(self) -> nn.ModuleDict:
        """Return the model as one module, for names, devices and checkpoints."""
        parts: dict[str, nn.Module] = {"encoder": self.encoder, "vocabulary_head": self.vocabulary_head}
        parts |= {f"objective_{index}": objective for index, objective in enumerate(dict.fromkeys(self.objectives))}
        return nn.ModuleDict(parts)

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Return every parameter once, under its first name."""
        return list(self.root().named_parameters())

    def tensors(self) -> dict[str, Tensor]:
        """Return every parameter and persistent buffer once, by name; what a checkpoint holds."""
        root = self.root()
        persistent = root.state_dict(keep_vars=True)
        unique = {name for name, _ in [*root.named_parameters(), *root.named_buffers()]}
        return {name: tensor for name, tensor in persistent.items() if name in unique}


def build_model(recipe: Recipe, vocabulary: Vocabulary, start_from: tuple[Encoder, TokenHead] | None) -> Model:
    """Build the model of a recipe, on the CPU, initialised from the recipe's seed.

    Args:
        recipe: validated.
        vocabulary: of the prepared corpus.
        start_from: encoder and head to continue from, instead of fresh ones.
    """
    if start_from is None:
        encoder, vocabulary_head = build_encoder_and_head(recipe, vocabulary, recipe.seed)
    else:
        encoder, vocabulary_head = start_from
        require_vocabulary(encoder.config, vocabulary)
    objectives: list[Objective] = []
    for index, phase in enumerate(recipe.phases):
        twins = [other for other in range(index) if recipe.phases[other].objective == phase.objective]
        if twins:
            objectives.append(objectives[twins[0]])
        else:
            plug_in, options = objective_of(phase)
            objective = plug_in(options, encoder, vocabulary, vocabulary_head)
            objective.initialize(torch_generator(recipe.seed, "objective", index))
            objectives.append(objective)
    return Model(encoder, vocabulary_head, objectives)


def build_encoder_and_head(recipe: Recipe, vocabulary: Vocabulary, seed: int) -> tuple[Encoder, TokenHead]:
    """Build a new encoder and its vocabulary head, on the CPU, with weights that are a function of `seed`."""
    section = recipe.encoder
    encoder = build_encoder(section.family, section.size, section.overrides, vocabulary, recipe.max_positions, seed)
    return encoder, build_vocabulary_head(encoder, seed)


def row_kind(phase: Phase) -> tuple[int, bool]:
    """Return what the rows of a phase are like: tokens in a row, and whether documents are kept whole."""
    return phase.sequence_length, phase.one_document_per_sequence


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
            (length, is_whole): RowStream(split, vocabulary, length, recipe.seed, stream=number, may_cut=not is_whole)
            for number, (length, is_whole) in enumerate(dict.fromkeys(kinds))
        }
        self._streams = [streams[kind] for kind in kinds]
        self._earlier_steps = [
            sum(course.phase_steps[other] for other in range(phase) if kinds[other] == kind)
            for phase, kind in enumerate(kinds)
        ]

    def __call__(self, step: int) -> list[CorruptedBatch]:
        """Return the micro-batches of one step, on the host."""
        place = self._course.place(step)
        return [
            self.micro_batch(place.phase, place.step_in_phase, place.phase_progress, number, step)
            for number in self.numbers
        ]

    def micro_batch(
        self, phase: int, step_in_phase: int, phase_progress: float, number: int, step: int
    ) -> CorruptedBatch:
        """Return one corrupted micro-batch; see `Place` for the arguments."""
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
