"""Decides about the machine: device, precision and attention."""

import torch

from maskwright.core.errors import RecipeError
from maskwright.core.hardware import (
    available_memory_bytes,
    default_device,
    fastest_dtype,
    matmul_flops_per_second,
)
from maskwright.core.log import warn
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import EngineRecord
from maskwright.encoders.attention import OWN_ATTENTION, choose_backend, require_backend
from maskwright.encoders.build import load_family
from maskwright.training.engine.costs import dtype_named, require_memory_for_weights
from maskwright.training.recipe.recipe import Recipe, encoder_config


def decide_engine(recipe: Recipe, ranks: Ranks) -> EngineRecord:
    """Measure the machine and decide device, precision and attention; whether to compile is decided later."""
    asked = recipe.engine
    device = default_device() if asked.device == "auto" else _device_named(asked.device)
    dtype = fastest_dtype(device) if asked.dtype == "auto" else dtype_named(asked.dtype)
    if ranks.any(dtype == torch.float32, device):  # measured on each, decided for all
        dtype = torch.float32
    attention, family = asked.attention, load_family(recipe.encoder.family)
    if family.is_foreign:
        attention = OWN_ATTENTION
    else:
        if attention == "auto":
            phases = range(len(recipe.phases))
            needs_scores = any(family.needs_scores(encoder_config(recipe, phase)) for phase in phases)
            attention = choose_backend(device, dtype, recipe.longest_sequence, needs_scores)
        require_backend(attention, device, dtype)
    return EngineRecord(
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        attention=attention,
        compiled=asked.compile == "on",
        num_ranks=ranks.num_ranks,
        matmul_flops_per_second=matmul_flops_per_second(device, dtype),
    )


def require_machine(recipe: Recipe) -> None:
    """Refuse a recipe that this machine has no device, kernel or memory for, before hours go into preparing text.

    Raises:
        RecipeError: there is no such device, or it has no such attention.
        MemoryShortage: the encoder's weights alone don't fit.
    """
    asked = recipe.engine
    device = default_device() if asked.device == "auto" else _device_named(asked.device)
    if asked.attention != "auto":
        dtype = torch.bfloat16 if asked.dtype == "auto" else dtype_named(asked.dtype)
        require_backend(asked.attention, device, dtype)
    require_memory_for_weights(recipe, available_memory_bytes(device))


def _device_named(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RecipeError(
            f"engine.device: {name!r} can't be used here", "auto, cpu, cuda or mps", "`maskwright doctor` says more"
        ) from error
    return device


def keep_decisions(now: EngineRecord, before: EngineRecord) -> EngineRecord:
    """Keep what was decided when the run began; say so if this machine would make the results differ."""
    if torch.device(now.device).type != torch.device(before.device).type:
        warn(f"begun on {before.device}, resumed on {now.device}: the result will not be the same to the last bit")
        return now
    if now.num_ranks != before.num_ranks:
        warn(f"begun with {before.num_ranks} processes, resumed with {now.num_ranks}: same batches, sums may round")
    return before.model_copy(update={"num_ranks": now.num_ranks, "device": now.device})
