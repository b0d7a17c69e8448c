"""What a run will cost, before it runs: parameters, FLOPs, memory, disk and time."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from maskwright.core.errors import MemoryShortage
from maskwright.core.records.run import EngineRecord, PhaseRecord, PlanRecord, totals_of
from maskwright.corpus.corpus import Corpus
from maskwright.encoders.build import empty_encoder, load_family
from maskwright.training.engine.cross_entropy_choice import logits_of_heads
from maskwright.training.model import Model
from maskwright.training.recipe.recipe import Recipe, encoder_config
from maskwright.training.timeline import Course, split_by_shares

EXPECTED_UTILISATION = {"cpu": 0.45, "cuda": 0.45, "mps": 0.3}
"""Share of the measured matmul rate that training is expected to reach; benchmarks/records has what it did reach."""

BYTES_PER_PARAMETER = 16
"""float32 weight, gradient and AdamW's two averages."""


def phase_flops_per_token(recipe: Recipe, models: Sequence[Model]) -> list[float]:
    """Return the training FLOPs per token of each phase (`encoders/flops.py` has the formula of most objectives)."""
    return [
        model.objective.flops_per_token(model.encoder.config, phase.sequence_length)
        for phase, model in zip(recipe.phases, models, strict=True)
    ]


def fix_course(recipe: Recipe, flops: list[float], seconds_per_step: list[float] | None) -> Course:
    """Turn the budget into optimizer steps of each phase.

    Args:
        recipe: gives budget, shares and batch sizes.
        flops: per token, by phase.
        seconds_per_step: by phase; needed for a budget in hours only.
    """
    budget, tokens = recipe.budget, [recipe.batches[phase].tokens for phase in range(len(flops))]
    if budget.steps is not None:
        total, cost_per_step = float(budget.steps), [1.0] * len(flops)
    elif budget.tokens is not None:
        total, cost_per_step = float(budget.tokens), [float(each) for each in tokens]
    elif budget.flops is not None:
        total, cost_per_step = budget.flops, [each * cost for each, cost in zip(tokens, flops, strict=True)]
    else:
        assert budget.hours is not None and seconds_per_step is not None
        total, cost_per_step = 3600 * budget.hours, seconds_per_step
    shares = [phase.share for phase in recipe.phases]
    return Course(split_by_shares(total, shares, cost_per_step), recipe.fresh_schedules)


def plan_record(recipe: Recipe, models: Sequence[Model], course: Course, flops: list[float]) -> PlanRecord:
    """Return what is foreseen, for the run's record; parameters are those of the last phase's model."""
    phases = [
        PhaseRecord(
            objective=phase.objective.name,
            sequence_length=phase.sequence_length,
            num_steps=steps,
            step_tokens=recipe.batches[index].tokens,
            flops_per_token=per_token,
            fills_masks=model.objective.fills_masks_with(model.objective.config),
            trains_vocabulary_head=model.objective.trains_vocabulary_head,
        )
        for index, (phase, model, steps, per_token) in enumerate(
            zip(recipe.phases, models, course.phase_steps, flops, strict=True)
        )
    ]
    return PlanRecord(
        num_parameters=models[-1].num_parameters(),
        num_body_parameters=sum(parameter.numel() for parameter in models[-1].encoder.blocks.parameters()),
        phases=phases,
        **totals_of(phases),
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


def footprint(recipe: Recipe, models: Sequence[Model], engine: EngineRecord) -> Footprint:
    """Estimate memory and disk from the shapes; each figure is that of the phase that needs most.

    A block keeps about 10 vectors of the hidden size and 4 of the feed-forward size a token for the backward pass, in
    half precision; logits and their gradients are bounded (`heads/cross_entropy.py`).

    Args:
        recipe: gives the micro-batches.
        models: give the shapes, by phase.
        engine: device and attention; all backends but `varlen` keep a row of weights for every token and head.
    """
    activations = []
    for index, (phase, model) in enumerate(zip(recipe.phases, models, strict=True)):
        config = model.encoder.config
        per_token = config.num_layers * 2 * (10 * config.hidden_size + 4 * config.feed_forward_size)
        weights = (
            0 if engine.attention == "varlen" else config.num_layers * config.num_heads * phase.sequence_length * 2
        )
        activations.append(recipe.batches[index].micro_batch_tokens * (per_token + weights))
    num_parameters = max(model.num_parameters() for model in models)
    return Footprint(
        weights_bytes=BYTES_PER_PARAMETER * num_parameters,
        activations_bytes=max(activations) + logits_of_heads(recipe, models, engine),
        checkpoint_bytes=12 * num_parameters,
    )


def require_memory(recipe: Recipe, need: Footprint, available_bytes: int) -> None:
    """Refuse a batch that can't fit, before the machine starts to swap.

    Raises:
        MemoryShortage: the estimate is over what is available; says what to lower.
    """
    needed = need.weights_bytes + need.activations_bytes
    if needed > available_bytes:
        tokens = max(batch.micro_batch_tokens for batch in recipe.batches)
        raise MemoryShortage(
            f"about {needed / 1e9:.1f} GB are needed ({need.activations_bytes / 1e9:.1f} GB of them for micro-batches "
            f"of {tokens} tokens), {available_bytes / 1e9:.1f} GB are available",
            "a model and a micro-batch that fit into memory",
            f"halve batch.micro_batch_tokens (--set batch.micro_batch_tokens={tokens // 2}; the global batch "
            "stays the same), or take a smaller encoder.size",
        )


def check_resources(recipe: Recipe, models: Sequence[Model], corpus: Corpus, available_bytes: int) -> None:
    """Raise now if an objective would fail when its phase begins; see `Objective.check_resources`."""
    for phase, model in zip(recipe.phases, models, strict=True):
        model.objective.check_resources(corpus, phase.sequence_length, available_bytes)


def require_memory_for_weights(recipe: Recipe, available_bytes: int) -> None:
    """Refuse an encoder whose weights, gradients and optimizer state can't fit; nothing is allocated.

    Raises:
        MemoryShortage: they can't.
    """
    family = load_family(recipe.encoder.family)
    encoders = [empty_encoder(family, encoder_config(recipe, phase)) for phase in range(len(recipe.phases))]
    needed = BYTES_PER_PARAMETER * max(sum(each.numel() for each in encoder.parameters()) for encoder in encoders)
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
