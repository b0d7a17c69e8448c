"""Phases of a run: each is entered with what the one before left, trains its own model, and is left again."""

from dataclasses import dataclass
from pathlib import Path

import torch

from maskwright.core.integrity import write_sums
from maskwright.core.log import say
from maskwright.core.randomness import torch_generator
from maskwright.core.records.run import RunFolder
from maskwright.encoders.growth import grow
from maskwright.export.folder import import_model
from maskwright.export.weights import weights_sha256
from maskwright.masking.phase_start import PhaseStart
from maskwright.models.trained import TrainedModel
from maskwright.optim.optimizers import Optimizers
from maskwright.tokenization.folder import load_tokenizer
from maskwright.tokenization.special_tokens import vocabulary_of
from maskwright.training.carry_over import carry_over, kept_parts
from maskwright.training.engine.costs import dtype_named
from maskwright.training.engine.cross_entropy_choice import use_cross_entropy
from maskwright.training.model import Model, build_model
from maskwright.training.recipe.recipe import encoder_config
from maskwright.training.recipe.sections import Phase
from maskwright.training.run import Run
from maskwright.training.step import PhaseModel, Stepper
from maskwright.training.watching.masked_example import beginning_of_a_document, write_masked_example


@dataclass(frozen=True)
class PhaseRun:
    """A phase of a run, with what it trains.

    Attributes:
        index: of the phase.
        options: of the phase.
        model: on the device.
        optimizers: of all the model's parameters.
    """

    index: int
    options: Phase
    model: Model
    optimizers: Optimizers

    @property
    def is_prepared(self) -> bool:
        """Whether something is done before the first step, so that a checkpoint belongs before it."""
        return self.model.objective.needs_begin or self.options.weights == "fresh"


def open_phase(run: Run, index: int, model: Model) -> PhaseRun:
    """Put the model of a phase onto the device, with optimizers that have no state yet."""
    options = run.recipe.phases[index]
    model.root().to(run.device)
    model.use_attention(run.engine.attention)
    use_cross_entropy(model, run.engine)
    model.freeze(options.freeze)
    optimizers = Optimizers(model.root(), run.recipe.optimizer, dtype_named(run.engine.dtype), run.ranks)
    return PhaseRun(index, options, model, optimizers)


def enter_phase(run: Run, before: PhaseRun) -> PhaseRun:
    """Make the phase that follows, with what it takes over of the phase before: weights, and the optimizers' state.

    The encoder goes on as it is, grown, or with fresh weights, as the recipe says; so do its head and the parts that
    both objectives have (`Phase.keep`). What is taken over is a function of the phase before alone, so that a run that
    is resumed from the last checkpoint of that phase enters this one in the same way (tests/resume/test_phases.py).
    """
    index = before.index + 1
    options, old = run.recipe.phases[index], before.model
    names = [name for name, _ in old.named_parameters()]
    of_encoder, of_head = (
        {name: name for name in names if name.startswith(part)} for part in ("encoder.", "vocabulary_head.")
    )
    around, carried, keep = (old.encoder, old.vocabulary_head), of_encoder | of_head, options.keep
    if options.weights == "fresh":
        around, carried, keep = None, {}, options.keep or ()
        say(f"phase {index + 1}: encoder and vocabulary head begin with fresh weights")
    elif options.encoder is not None:
        config = encoder_config(run.recipe, index, run.corpus.vocabulary)
        generator = torch_generator(run.recipe.seed, "growth", index)
        grown = grow(old.encoder, config, options.encoder.new_blocks, generator)
        around = grown.encoder, old.vocabulary_head
        carried = of_head | {f"encoder.{now}": f"encoder.{then}" for now, then in grown.origins.items()}
        say(
            f"phase {index + 1}: the encoder goes from {old.encoder.config.num_layers} to {config.num_layers} blocks "
            f"({options.encoder.new_blocks})"
        )
    model = build_model(run.recipe, run.corpus.vocabulary, index, around)
    carried |= carry_over(old.objective, model.objective, kept_parts(old.objective, model.objective, keep))
    entered = open_phase(run, index, model)
    entered.optimizers.take_over(before.optimizers, carried)
    return entered


def begin_phase(run: Run, phase: PhaseRun, step: int, before: PhaseRun | None) -> Stepper:
    """Let the phase's objective make ready, and return what runs its steps.

    Args:
        run: of the phase.
        phase: whose objective begins.
        step: that comes next.
        before: the phase that was left; None if this one was begun before, or is the first.
    """
    model = phase.model
    model.objective.begin(model.encoder, phase_start(run, phase, step, before))
    joined = PhaseModel(model.encoder, model.objective).train()
    device, dtype = run.device, dtype_named(run.engine.dtype)
    return Stepper(joined, device, dtype, run.ranks, run.recipe.seed, run.engine.compiled)


@torch.no_grad()
def leave_phase(run: Run, phase: PhaseRun, step: int) -> None:
    """Write what the objective, with the weights and the rate of after `step` steps, hides in a paragraph.

    It is the last that is written into the phase's folder, which gets its checksums.
    """
    if not run.ranks.is_first:
        return
    objective = phase.model.objective
    clean = beginning_of_a_document(run.corpus, phase.options.sequence_length)
    # One generator for all phases: where they hide the same way, they hide the same.
    generator = torch_generator(run.recipe.seed, "masked_example")
    batch = objective.corrupt(clean, generator, run.course.position_of(step - 1).phase_progress)
    batch = objective.complete(phase.model.encoder, batch.to(run.device))
    write_masked_example(run.folder, phase.index, phase.options.objective, batch, run.tokenizer)
    write_sums(run.folder.phase(phase.index))


def phase_start(run: Run, phase: PhaseRun, step: int, before: PhaseRun | None) -> PhaseStart:
    """Return what the objective of a phase is given; see `begin_phase` for the arguments."""
    index, vocabulary = phase.index, run.corpus.vocabulary
    was_begun = step > run.course.first_step(index)

    def model_before() -> TrainedModel:
        model = phase.model if before is None else before.model
        if was_begun and phase.options.encoder is not None:
            model = build_model(run.recipe, vocabulary, index - 1)
        return TrainedModel(model.encoder, model.vocabulary_head, vocabulary, "")

    return PhaseStart(
        folder=run.folder.phase(index),
        corpus=run.corpus,
        sequence_length=phase.options.sequence_length,
        num_steps=run.course.planned_steps[index],
        seed=run.recipe.seed,
        device=run.device,
        dtype=dtype_named(run.engine.dtype),
        micro_batch_tokens=run.recipe.batches[index].micro_batch_tokens,
        was_begun=was_begun,
        ranks=run.ranks,
        read_model=read_model,
        model_before=model_before,
    )


def read_model(path: Path) -> TrainedModel:
    """Read any masked encoder, from a model folder or a run folder.

    Raises:
        ExportError: there is none.
    """
    run = RunFolder(path)
    folder = run.model if run.run_record.exists() else path
    model = import_model(folder)
    return TrainedModel(model.encoder, model.head, vocabulary_of(load_tokenizer(folder)), weights_sha256(folder))
