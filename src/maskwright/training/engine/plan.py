"""What a run will cost, before it runs: parameters, FLOPs, memory, disk and time."""

from dataclasses import dataclass

import torch

from maskwright.core.errors import MemoryShortage
from maskwright.core.records.run import PhaseRecord, PlanRecord
from maskwright.corpus.corpus import Corpus
from maskwright.encoders.build import empty_encoder, load_family
from maskwright.training.engine.cross_entropy_choice import logits_of_head
from maskwright.training.model import Model
from maskwright.training.recipe.recipe import Recipe, encoder_config
from maskwright.training.timeline import Course, split_by_shares

EXPECTED_UTILISATION = {"cpu": 0.45, "cuda": 0.45, "mps": 0.3}
"""Share of the measured matmul rate that training is expected to reach; benchmarks/records has what it did reach."""

BYTES_PER_PARAMETER = 16
"""float32 weight, gradient and AdamW's two averages."""


def phase_flops_per_token(recipe: Recipe, model: Model) -> list[float]:
    """Return the training FLOPs per token of each phase (`encoders/flops.py` has the formula of most objectives)."""
    return [
        objective.flops_per_token(model.encoder.config, phase.sequence_length)
        for phase, objective in zip(recipe.phases, model.objectives, strict=True)
    ]


def fix_course(recipe: Recipe, flops: list[float], seconds_per_step: list[float] | None) -> Course:
    """Turn the budget into optimizer steps of each phase.

    Args:
        recipe: gives budget, shares and batch size.
        flops: per token, by phase.
        seconds_per_step: by phase, measured; needed for a budget in hours only.
    """
    budget, tokens = recipe.budget, recipe.batch.tokens
    if budget.steps is not None:
        total, cost_per_step = float(budget.steps), [1.0] * len(flops)
    elif budget.tokens is not None:
        total, cost_per_step = float(budget.tokens), [float(tokens)] * len(flops)
    elif budget.flops is not None:
        total, cost_per_step = budget.flops, [tokens * each for each in flops]
    else:
        assert budget.hours is not None and seconds_per_step is not None
        total, cost_per_step = 3600 * budget.hours, seconds_per_step
    shares = [phase.share for phase in recipe.phases]
    return Course(split_by_shares(total, shares, cost_per_step), recipe.fresh_schedules)


def plan_record(recipe: Recipe, model: Model, course: Course, flops: list[float]) -> PlanRecord:
    """Return what is foreseen, for the run's record."""
    phases = [
        PhaseRecord(
            objective=phase.objective.name,
            sequence_length=phase.sequence_length,
            num_steps=steps,
            flops_per_token=per_token,
            fills_masks=objective.fills_masks_with(objective.config),
            trains_vocabulary_head=objective.trains_vocabulary_head,
        )
        for phase, objective, steps, per_token in zip(
            recipe.phases, model.objectives, course.phase_steps, flops, strict=True
        )
    ]
    num_tokens = course.num_steps * recipe.batch.tokens
    return PlanRecord(
        num_parameters=sum(parameter.numel() for _, parameter in model.named_parameters()),
        num_body_parameters=sum(parameter.numel() for parameter in model.encoder.blocks.parameters()),
        phases=phases,
        total_flops=sum(
            steps * recipe.batch.tokens * per_token for steps, per_token in zip(course.phase_steps, flops, strict=True)
        ),
        total_tokens=num_tokens,
        total_steps=course.num_steps,
    )


@dataclass(frozen=True)
class Footprint:
    """Bytes that a run needs, estimated.

    Attributes:
        weights_bytes: weights, gradients and optimizer state.
        activations_bytes: of one micro-batch, logits included.
        checkpoint_bytes: of one checkpoint on disk.
    """

    weights_bytes: int
    activations_bytes: int
    checkpoint_bytes: int


def footprint(recipe: Recipe, model: Model, attention: str) -> Footprint:
    """Estimate memory and disk from the shapes.

    A block keeps about 10 vectors of the hidden size and 4 of the feed-forward size a token for the backward pass, in
    half precision; logits and their gradients are bounded (`heads/cross_entropy.py`).

    Args:
        recipe: gives the micro-batch.
        model: gives the shapes.
        attention: the backend; all but `varlen` keep a row of attention weights for every token and head.
    """
    num_parameters = sum(parameter.numel() for _, parameter in model.named_parameters())
    config = model.encoder.config
    tokens = recipe.batch.micro_batch_tokens
    per_token = config.num_layers * 2 * (10 * config.hidden_size + 4 * config.feed_forward_size)
    weights = 0 if attention == "varlen" else config.num_layers * config.num_heads * recipe.longest_sequence * 2
    logits = logits_of_head(recipe, model)
    return Footprint(
        weights_bytes=BYTES_PER_PARAMETER * num_parameters,
        activations_bytes=int(tokens * (per_token + weights) + logits),
        checkpoint_bytes=12 * num_parameters,
    )


def require_memory(recipe: Recipe, need: Footprint, available_bytes: int) -> None:
    """Refuse a batch that can't fit, before the machine starts to swap.

    Raises:
        MemoryShortage: the estimate is over what is available; says what to lower.
    """
    needed = need.weights_bytes + need.activations_bytes
    if needed > available_bytes:
        tokens = recipe.batch.micro_batch_tokens
        raise MemoryShortage(
            f"about {needed / 1e9:.1f} GB are needed ({need.activations_bytes / 1e9:.1f} GB of them for micro-batches "
            f"of {tokens} tokens), {available_bytes / 1e9:.1f} GB are available",
            "a model and a micro-batch that fit into memory",
            f"halve batch.micro_batch_tokens (--set batch.micro_batch_tokens={tokens // 2}; the global batch "
            "stays the same), or take a smaller encoder.size",
        )


def check_resources(recipe: Recipe, model: Model, corpus: Corpus, available_bytes: int) -> None:
    """Raise now if an objective would fail when its phase begins; see `Objective.check_resources`."""
    for phase, objective in zip(recipe.phases, model.objectives, strict=True):
        objective.check_resources(corpus, phase.sequence_length, available_bytes)


def require_memory_for_weights(recipe: Recipe, available_bytes: int) -> None:
    """Refuse an encoder whose weights, gradients and optimizer state can't fit; nothing is allocated.

    Raises:
        MemoryShortage: they can't.
    """
    encoder = empty_encoder(load_family(recipe.encoder.family), encoder_config(recipe))
    needed = BYTES_PER_PARAMETER * sum(parameter.numel() for parameter in encoder.parameters())
    if needed > available_bytes:
        raise MemoryShortage(
            f"about {needed / 1e9:.1f} GB are needed for the encoder's weights, gradients and optimizer state, "
            f"{available_bytes / 1e9:.1f} GB are available",
            "an encoder that fits into memory",
            "take a smaller encoder.size, or fewer or narrower layers",
        )


def dtype_named(name: str) -> torch.dtype:
    """Return the torch dtype of a name such as "bfloat16"."""
    return getattr(torch, name)
