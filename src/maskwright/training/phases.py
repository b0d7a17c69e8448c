"""Begins a phase: prepares what its objective needs besides the weights, and renews weights if the recipe says so."""

from pathlib import Path

import torch

from maskwright.core.log import say
from maskwright.core.randomness import derived_seed
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder
from maskwright.corpus.corpus import Corpus
from maskwright.export.folder import import_model
from maskwright.export.weights import weights_sha256
from maskwright.masking.phase_start import PhaseStart
from maskwright.models.trained import TrainedModel
from maskwright.optim.optimizers import Optimizers
from maskwright.tokenization.folder import load_tokenizer
from maskwright.tokenization.special_tokens import vocabulary_of
from maskwright.training.model import Model, build_encoder_and_head
from maskwright.training.recipe.recipe import Recipe
from maskwright.training.timeline import Course


def phase_start(
    recipe: Recipe,
    folder: RunFolder,
    corpus: Corpus,
    course: Course,
    step: int,
    device: torch.device,
    dtype: torch.dtype,
    ranks: Ranks,
) -> PhaseStart:
    """Return what the objective of the phase that `step` lies in is given before that step; see `PhaseStart`."""
    position = course.position_of(step)
    phase = position.phase
    return PhaseStart(
        folder=folder.phase(phase),
        corpus=corpus,
        sequence_length=recipe.phases[phase].sequence_length,
        num_steps=course.phase_steps[phase],
        seed=recipe.seed,
        device=device,
        dtype=dtype,
        micro_batch_tokens=recipe.batch.micro_batch_tokens,
        was_begun=position.step_in_phase > 0,
        ranks=ranks,
        read_model=read_model,
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


def is_prepared(recipe: Recipe, model: Model, phase: int) -> bool:
    """Return whether something is done before a phase's first step, so that a checkpoint belongs there."""
    return model.objectives[phase].needs_begin or phase in recipe.fresh_phases


def renew_weights(recipe: Recipe, corpus: Corpus, model: Model, optimizers: Optimizers, phase: int) -> None:
    """Give encoder and vocabulary head new weights, which the seed and the phase decide, and forget past updates."""
    seed = derived_seed(recipe.seed, "phase", phase)
    encoder, vocabulary_head = build_encoder_and_head(recipe, corpus.vocabulary, seed)
    tensors = model.tensors()
    with torch.no_grad():
        for name, fresh in Model(encoder, vocabulary_head, []).tensors().items():
            tensors[name].copy_(fresh)
    optimizers.forget()
    say(f"phase {phase + 1}: encoder and vocabulary head begin with fresh weights")
