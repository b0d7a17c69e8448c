"""What `maskwright plan` shows: the cost of a recipe on this machine, from shapes and a one-second probe alone."""

import torch

from maskwright.core.hardware import available_memory_bytes
from maskwright.core.records.run import PlanRecord
from maskwright.encoders.flops import head_flops_per_token
from maskwright.training.engine.costs import EXPECTED_UTILISATION
from maskwright.training.engine.cross_entropy_choice import logits_of_heads
from maskwright.training.engine.plan import RunPlan, plan_run
from maskwright.training.recipe.recipe import Recipe
from maskwright.training.recipe.sections import EncoderSection
from maskwright.training.timeline import Course
from maskwright.training.watching.probing import occasions_of
from maskwright.training.watching.word_checkpoints import name_of_mark


def forecast(recipe: Recipe) -> list[tuple[str, str]]:
    """Return what `maskwright plan` shows, as names and values."""
    plan = plan_run(recipe)
    record, need, engine, seconds = plan.record, plan.need, plan.engine, plan.seconds
    device = torch.device(engine.device)
    memory = need.weights_bytes + need.activations_bytes
    available = available_memory_bytes(device)
    rows = [
        ("encoder", _name(recipe.encoder_of(len(recipe.phases) - 1))),
        ("parameters", f"{record.num_parameters / 1e6:.1f} M, {record.num_body_parameters / 1e6:.1f} M in the blocks"),
    ]
    for number, (phase, model) in enumerate(zip(record.phases, plan.models, strict=True), start=1):
        rows.append(
            (
                f"phase {number}",
                f"{phase.objective}, sequences of {phase.sequence_length}, {phase.num_steps:,} steps, "
                f"{phase.flops_per_token / 1e6:,.1f} MFLOP a token",
            )
        )
        config, flops_per_second = model.encoder.config, plan.effective_flops_per_second
        rows += model.objective.forecast(config, phase.sequence_length, flops_per_second)
    kept = recipe.checkpoints.keep_last + recipe.checkpoints.keep_best
    return [
        *rows,
        ("vocabulary head", _head(recipe, plan)),
        ("tokens", f"{record.total_tokens:,} in {record.total_steps:,} steps of {_step_tokens(recipe)}"),
        ("FLOPs", f"{record.total_flops:.3g}"),
        ("machine", f"{engine.device}, {engine.dtype}, attention {engine.attention}"),
        ("matrix products", f"{engine.matmul_flops_per_second / 1e9:,.0f} GFLOP/s, measured now"),
        (
            "predicted speed",
            f"{record.total_tokens / seconds:,.0f} tokens/s at {EXPECTED_UTILISATION[device.type]:.0%} of that",
        ),
        ("predicted time", _duration(seconds)),
        (
            "memory",
            f"about {memory / 1e9:.1f} GB ({available / 1e9:.1f} GB available)"
            + ("; it will not fit: lower batch.micro_batch_tokens" if memory > available else ""),
        ),
        *_on_the_way(recipe, record),
        ("disk", f"{need.checkpoint_bytes * kept / 1e6:,.0f} MB for {kept} checkpoints, and 2 to 4 bytes a token"),
    ]


def _name(encoder: EncoderSection) -> str:
    """Return what a recipe calls its encoder: family and size, or for models of transformers their type."""
    return " ".join(filter(None, (encoder.family, encoder.size, encoder.overrides.get("model_type"))))


def _step_tokens(recipe: Recipe) -> str:
    sizes = {batch.tokens for batch in recipe.batches}
    return " to ".join(f"{size:,}" for size in sorted({min(sizes), max(sizes)}))


def _head(recipe: Recipe, plan: RunPlan) -> str:
    """Say what the head costs: its share of the FLOPs, and the memory of its logits."""
    shares = [
        model.objective.scored_fraction() * head_flops_per_token(model.encoder.config) / phase.flops_per_token
        for model, phase in zip(plan.models, plan.record.phases, strict=True)
    ]
    most = f"{max(shares):.0%}" if len(shares) == 1 else f"{min(shares):.0%} to {max(shares):.0%}"
    megabytes = logits_of_heads(recipe, plan.models, plan.engine) / 1e6
    return f"{most} of the FLOPs; logits take {megabytes:,.0f} MB"


def _on_the_way(recipe: Recipe, record: PlanRecord) -> list[tuple[str, str]]:
    """Return what is measured and exported during the run, where anything is."""
    rows = []
    if recipe.probes.is_on:
        what = "held-out loss and clozes" + (", and minimal pairs" if recipe.probes.minimal_pairs else "")
        share = recipe.probes.max_share
        bound = f", in at most {share:.0%} of the training time" if share is not None else ""
        rows.append(("probes", f"{len(occasions_of(recipe, Course((record.total_steps,))))} times {what}{bound}"))
    marks = recipe.checkpoints.word_marks
    if marks:
        size = 4 * record.num_parameters / 1e6
        rows.append(
            (
                "by words",
                f"{name_of_mark(marks[0])} ... {name_of_mark(marks[-1])}, as far as the run comes, about "
                f"{size:,.0f} MB each; how many words it will see is said when the text is prepared",
            )
        )
    return rows


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
