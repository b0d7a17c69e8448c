"""Times a step of each phase before the first one: for budgets in hours, and for what depends on how long a run is."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from maskwright.core.hardware import wait_for_device
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import EngineRecord
from maskwright.corpus.corpus import Corpus
from maskwright.optim.optimizers import Optimizers
from maskwright.training.engine.costs import dtype_named, phase_flops_per_token
from maskwright.training.model import Model
from maskwright.training.recipe.recipe import Recipe
from maskwright.training.recipe.sections import Phase
from maskwright.training.safety.non_finite import memory_errors_explained
from maskwright.training.step import PhaseModel, Stepper
from maskwright.training.step_batches import StepBatches
from maskwright.training.timeline import Course

FEW_STEPS = 3
"""That many are timed in any case, unless they are slow."""

SLOW_SECONDS = 10.0
"""Of timed steps; none is repeated after that, where no more seconds were asked for."""


def seconds_of_steps(
    recipe: Recipe,
    corpus: Corpus,
    models: Sequence[Model],
    engine: EngineRecord,
    ranks: Ranks,
    least_seconds: float = 0.0,
    summarize: Callable[[list[float]], float] = statistics.median,
) -> list[float]:
    """Time a step of each phase as `engine` has it, the update included; no weight changes.

    A phase that can't be timed before it begins is estimated from its FLOPs, relative to the default objective.

    Args:
        recipe: gives batches, phases and optimizer.
        corpus: gives the text.
        models: of the phases, on their device.
        engine: device, precision, and whether to compile.
        ranks: all processes of the run, over which the mean is taken.
        least_seconds: of timed steps, for all phases: the more there are, the less one of them says by chance.
        summarize: what the times of a phase's steps become.
    """
    chosen, timed = Phase().objective, []
    for model in models:
        if model.objective.needs_begin:
            default = chosen.plug_in(chosen.options, model.encoder, corpus.vocabulary, model.vocabulary_head)
            model = replace(model, objective=default.to(torch.device(engine.device)))
        timed.append(model)
    batches = StepBatches(recipe, corpus, Course((1,) * len(recipe.phases)), ranks)
    real_flops, timed_flops = phase_flops_per_token(recipe, models), phase_flops_per_token(recipe, timed)
    return [
        _seconds_of_step(recipe, timed[phase], batches, engine, ranks, phase, least_seconds / len(models), summarize)
        * real
        / run
        for phase, (real, run) in enumerate(zip(real_flops, timed_flops, strict=True))
    ]


def _seconds_of_step(
    recipe: Recipe,
    model: Model,
    batches: StepBatches,
    engine: EngineRecord,
    ranks: Ranks,
    phase: int,
    least_seconds: float,
    summarize: Callable[[list[float]], float],
) -> float:
    device = torch.device(engine.device)
    model.freeze(recipe.phases[phase].freeze)
    phase_model = PhaseModel(model.encoder, model.objective).train()
    stepper = Stepper(phase_model, device, dtype_named(engine.dtype), Ranks(), recipe.seed, engine.compiled)
    optimizers = Optimizers(model.root(), recipe.optimizer, dtype_named(engine.dtype))
    numbers, micro_batches = batches.numbers(phase), batches(phase, model.objective)

    def one_step(num_micro_batches: int) -> float:
        begin = time.perf_counter()
        with memory_errors_explained(recipe.batches[phase].micro_batch_tokens):
            stepper.forward_backward(phase, numbers[:num_micro_batches], micro_batches[:num_micro_batches])
        optimizers.clip()
        optimizers.step(0.0)  # with a learning rate of 0 no weight changes
        wait_for_device(device)
        return time.perf_counter() - begin

    one_step(1)  # warms up, and compiles
    seconds = [one_step(len(micro_batches))]
    while sum(seconds) < least_seconds or (len(seconds) < FEW_STEPS and sum(seconds) < SLOW_SECONDS):
        seconds.append(one_step(len(micro_batches)))
    return ranks.sum([summarize(seconds)], device)[0] / ranks.num_ranks
