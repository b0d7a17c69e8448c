"""What `maskwright plan` shows: the cost of a recipe on this machine, from shapes and a one-second probe alone."""

from dataclasses import dataclass

import torch

from maskwright.core.hardware import available_memory_bytes
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import EngineRecord, PlanRecord
from maskwright.encoders.flops import head_flops_per_token
from maskwright.training.engine.cross_entropy_choice import logits_of_head
from maskwright.training.engine.decide import decide_engine
from maskwright.training.engine.plan import (
    EXPECTED_UTILISATION,
    Footprint,
    fix_course,
    footprint,
    phase_flops_per_token,
    plan_record,
)
from maskwright.training.model import Model, build_model
from maskwright.training.recipe.recipe import Recipe, vocabulary_asked_for
from maskwright.training.recipe.sections import EncoderSection
from maskwright.training.watching.probing import occasions_of
from maskwright.training.watching.word_checkpoints import name_of_mark


@dataclass(frozen=True)
class Foreseen:
    """What a recipe will cost on this machine.

    Attributes:
        model: as the recipe asks for, untrained.
        plan: steps, tokens and FLOPs.
        need: memory and disk.
        engine: device, precision, attention, and the matmul rate that was measured.
        effective_flops_per_second: the share of that rate that training is expected to reach.
    """

    model: Model
    plan: PlanRecord
    need: Footprint
    engine: EngineRecord
    effective_flops_per_second: float

    @property
    def seconds(self) -> float:
        """Of training, predicted."""
        return self.plan.total_flops / self.effective_flops_per_second


def foresee(recipe: Recipe) -> Foreseen:
    """Predict what a recipe will cost.

    Speed is predicted as the share `EXPECTED_UTILISATION` of the measured matmul rate over the FLOPs per token; the
    vocabulary is taken to have the size that the recipe asks for.
    """
    engine = decide_engine(recipe, Ranks())
    model = build_model(recipe, vocabulary_asked_for(recipe), None)
    flops = phase_flops_per_token(recipe, model)
    effective = engine.matmul_flops_per_second * EXPECTED_UTILISATION[torch.device(engine.device).type]
    course = fix_course(recipe, flops, [recipe.batch.tokens * each / effective for each in flops])
    record = plan_record(recipe, model, course, flops)
    return Foreseen(model, record, footprint(recipe, model, engine.attention), engine, effective)


def forecast(recipe: Recipe) -> list[tuple[str, str]]:
    """Return what `maskwright plan` shows, as names and values."""
    foreseen = foresee(recipe)
    record, need, engine, seconds = foreseen.plan, foreseen.need, foreseen.engine, foreseen.seconds
    device = torch.device(engine.device)
    memory = need.weights_bytes + need.activations_bytes
    available = available_memory_bytes(device)
    rows = [
        ("encoder", _name(recipe.encoder)),
        ("parameters", f"{record.num_parameters / 1e6:.1f} M, {record.num_body_parameters / 1e6:.1f} M in the blocks"),
    ]
    for number, (phase, objective) in enumerate(zip(record.phases, foreseen.model.objectives, strict=True), start=1):
        rows.append(
            (
                f"phase {number}",
                f"{phase.objective}, sequences of {phase.sequence_length}, {phase.num_steps:,} steps, "
                f"{phase.flops_per_token / 1e6:,.1f} MFLOP a token",
            )
        )
        rows += objective.forecast(
            foreseen.model.encoder.config, phase.sequence_length, foreseen.effective_flops_per_second
        )
    kept = recipe.checkpoints.keep_last + recipe.checkpoints.keep_best
    return [
        *rows,
        ("vocabulary head", _head(recipe, foreseen)),
        ("tokens", f"{record.total_tokens:,} in {record.total_steps:,} steps of {recipe.batch.tokens:,}"),
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


def _head(recipe: Recipe, foreseen: Foreseen) -> str:
    """Say what the head costs: its share of the FLOPs, and the memory of its logits."""
    model, phases = foreseen.model, foreseen.plan.phases
    per_token = head_flops_per_token(model.encoder.config)
    shares = [
        objective.scored_fraction() * per_token / phase.flops_per_token
        for objective, phase in zip(model.objectives, phases, strict=True)
    ]
    most = f"{max(shares):.0%}" if len(shares) == 1 else f"{min(shares):.0%} to {max(shares):.0%}"
    return f"{most} of the FLOPs; logits take {logits_of_head(recipe, model) / 1e6:,.0f} MB"


def _on_the_way(recipe: Recipe, record: PlanRecord) -> list[tuple[str, str]]:
    """Return what is measured and exported during the run, where anything is."""
    rows = []
    if recipe.probes.is_on:
        what = "held-out loss and clozes" + (", and minimal pairs" if recipe.probes.minimal_pairs else "")
        share = recipe.probes.max_share
        bound = f", in at most {share:.0%} of the training time" if share is not None else ""
        rows.append(("probes", f"{len(occasions_of(recipe, record.total_steps))} times {what}{bound}"))
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
