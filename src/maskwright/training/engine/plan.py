"""What is decided about a run before its first step: once, for `train`, `plan` and `compare` alike."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from maskwright.core.errors import RecipeError
from maskwright.core.hardware import available_memory_bytes, can_compile
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import EngineRecord, PlanRecord, RunRecord
from maskwright.corpus.corpus import Corpus
from maskwright.encoders.encoder import Encoder
from maskwright.export import require_exportable
from maskwright.heads.token_head import TokenHead
from maskwright.masking.strategies.base import Strategy
from maskwright.objectives.terms.base import Term
from maskwright.optim.optimizers import require_roles
from maskwright.training.carry_over import kept_parts
from maskwright.training.engine.costs import (
    EXPECTED_UTILISATION,
    Footprint,
    check_resources,
    dtype_named,
    fix_course,
    footprint,
    phase_flops_per_token,
    plan_record,
    require_memory,
)
from maskwright.training.engine.cross_entropy_choice import decide_cross_entropy, use_cross_entropy
from maskwright.training.engine.decide import decide_engine, keep_decisions
from maskwright.training.engine.timing import seconds_of_steps
from maskwright.training.model import Model, build_models
from maskwright.training.recipe.recipe import Recipe, vocabulary_asked_for
from maskwright.training.timeline import Course
from maskwright.training.watching.probing import Probe, decide_strides, is_timing_needed

SECONDS_WORTH_COMPILING = {"cpu": 300.0, "cuda": 300.0}
"""Training time of a phase, uncompiled, from which `compile: auto` compiles.

A graph takes 60 seconds of one core the first time, and 3 once torch has it in its cache; it saves 13 to 27 % of a step
(encoders of 6 layers, 128 and 256 wide, steps of 2,048 and 8,192 tokens, an AMD EPYC, 2026-11-28)."""

SHARE_OF_TIMING = 0.02
"""Of a budget in hours: so long are steps timed to turn it into steps ..."""

MOST_SECONDS_OF_TIMING = 60.0
"""... at most."""


@dataclass(frozen=True)
class RunPlan:
    """What was decided about a run.

    Attributes:
        engine: device, precision, attention, how steps are made, and the matmul rate that was measured.
        models: of the phases, untrained; phases whose encoders are alike share one.
        course: step -> phase and progress.
        record: steps, tokens, FLOPs and how often probes measure.
        need: memory and disk.
    """

    engine: EngineRecord
    models: Sequence[Model]
    course: Course
    record: PlanRecord
    need: Footprint

    @property
    def effective_flops_per_second(self) -> float:
        """The share of the measured matmul rate that training is expected to reach."""
        return _effective(self.engine)

    @property
    def seconds(self) -> float:
        """Of training, predicted from FLOPs."""
        return self.record.total_flops / self.effective_flops_per_second


MOST_OPTIMISM = 16.0
"""A step is expected to take no less than its time when it was measured, over this."""


def plan_run(
    recipe: Recipe,
    corpus: Corpus | None = None,
    ranks: Ranks | None = None,
    probes: Mapping[str, Probe] | None = None,
    *,
    around: tuple[Encoder, TokenHead] | None = None,
    before: RunRecord | None = None,
) -> RunPlan:
    """Decide what a recipe's run will do on this machine, and refuse what could not be finished.

    Args:
        recipe: validated.
        corpus: prepared; steps are timed where the recipe leaves something to the machine. None: there is no text yet,
            so that time follows from FLOPs, and the vocabulary has the size that the recipe asks for.
        ranks: all processes of the run; default: this one alone.
        probes: by name; the one that costs least comes first.
        around: encoder and head to continue from.
        before: the run's record when it is resumed; what it decided stays decided.

    Raises:
        MemoryShortage: a batch can't fit.
        ExportError: an encoder could not be exported.
        RecipeError: a phase keeps or freezes what is not there; a machine can't do what the recipe asks for.
    """
    ranks = ranks or Ranks()
    engine = decide_engine(recipe, ranks)
    if before is not None:
        engine = keep_decisions(engine, before.engine)
    models = build_models(recipe, corpus.vocabulary if corpus else vocabulary_asked_for(recipe), around)
    _require_sound_phases(recipe, models)
    need, flops = footprint(recipe, models, engine), phase_flops_per_token(recipe, models)
    if corpus is None:
        seconds = _seconds_by_flops(recipe, flops, _effective(engine) * ranks.num_ranks)
        course = fix_course(recipe, flops, seconds)
        return RunPlan(engine, models, course, plan_record(recipe, models, course, flops), need)
    device = torch.device(engine.device)
    require_memory(recipe, need, available_memory_bytes(device))
    for model in models:
        model.root().to(device)
        model.use_attention(engine.attention)
    if before is not None:
        planned = before.plan.planned_steps or [phase.num_steps for phase in before.plan.phases]
        changes = [(change.step, tuple(change.phase_steps)) for change in before.plan.changes]
        course = Course(tuple(planned), recipe.fresh_schedules, changes)
        return RunPlan(engine, models, course, before.plan, need)
    check_resources(recipe, models, corpus, available_memory_bytes(device))
    keeps_hours = _keeps_hours(recipe, models)
    engine, course, strides = _measure(recipe, corpus, models, engine, flops, ranks, probes or {}, keeps_hours)
    news = {"probe_strides": strides, "keeps_hours": keeps_hours}
    record = plan_record(recipe, models, course, flops).model_copy(update=news)
    return RunPlan(engine, models, course, record, need)


def _require_sound_phases(recipe: Recipe, models: Sequence[Model]) -> None:
    """Refuse now what a phase would refuse when it is entered or left, after hours of earlier ones."""
    for index, (phase, model) in enumerate(zip(recipe.phases, models, strict=True)):
        try:
            model.freeze(phase.freeze)
            require_roles(model.root(), recipe.optimizer)
            if index:
                before = models[index - 1]
                kept_parts(before.objective, model.objective, phase.keep)
                for part in model.objective.modules():
                    if isinstance(part, Term):
                        part.require_before(before.encoder.config)
        except RecipeError as error:
            raise RecipeError(f"phase {index + 1}: {error.got}", error.expected, error.to_do) from error
        require_exportable(model.encoder, tuple(model.exported_heads()))


def _keeps_hours(recipe: Recipe, models: Sequence[Model]) -> bool:
    """Return whether the run changes its length on the way to keep its hours: where nothing counts on its steps."""
    parts = (part for model in models for part in model.objective.modules())
    return recipe.budget.hours is not None and not any(
        isinstance(part, (Strategy, Term)) and part.counts_steps for part in parts
    )


def _optimistic(
    recipe: Recipe, seconds: Sequence[float], flops: Sequence[float], engine: EngineRecord, ranks: Ranks
) -> list[float]:
    """Return what a step takes at best, the same on all ranks.

    On a machine that is busy at this moment, steps take many times what their FLOPs let expect. A run that is planned
    too long is shortened on the way, and its schedules hardly notice; one planned too short would be far along at once.
    """
    expected = _seconds_by_flops(recipe, flops, _effective(engine) * ranks.num_ranks)
    mine = [max(min(pair), pair[0] / MOST_OPTIMISM) for pair in zip(seconds, expected, strict=True)]
    return [each / ranks.num_ranks for each in ranks.sum(mine, torch.device(engine.device))]


def _measure(
    recipe: Recipe,
    corpus: Corpus,
    models: Sequence[Model],
    engine: EngineRecord,
    flops: list[float],
    ranks: Ranks,
    probes: Mapping[str, Probe],
    keeps_hours: bool,
) -> tuple[EngineRecord, Course, dict[str, int]]:
    """Decide how steps are made and how often each probe measures, and fix the course; time a step where needed."""
    is_share_bounded, hours = is_timing_needed(recipe), recipe.budget.hours
    total = 0.0 if hours is None else 3600 * hours
    if hours is None and (is_share_bounded or recipe.engine.compile == "auto"):
        uncompiled = engine.model_copy(update={"compiled": False})
        seconds = seconds_of_steps(recipe, corpus, models, uncompiled, ranks)
        course = fix_course(recipe, flops, None)
        total = sum(steps * each for steps, each in zip(course.phase_steps, seconds, strict=True))
    if recipe.engine.compile == "auto":
        device = torch.device(engine.device)
        worth = SECONDS_WORTH_COMPILING.get(device.type, float("inf")) * len(recipe.phases)
        is_worth_it = total > worth and not models[0].encoder.is_foreign and can_compile(device)
        engine = engine.model_copy(update={"compiled": is_worth_it})
    engine = engine.model_copy(update={"cross_entropy": decide_cross_entropy(recipe, models, engine, ranks)})
    for model in models:
        use_cross_entropy(model, engine)
    # Hours are judged by steps as they will be made.
    patience = min(SHARE_OF_TIMING * total, MOST_SECONDS_OF_TIMING)
    seconds = None
    if hours is not None:
        summarize = min if keeps_hours else statistics.median
        seconds = seconds_of_steps(recipe, corpus, models, engine, ranks, patience, summarize)
        if keeps_hours:
            seconds = _optimistic(recipe, seconds, flops, engine, ranks)
        _require_hours(recipe, seconds)
    course, strides = fix_course(recipe, flops, seconds), {}
    if is_share_bounded:
        dtype, held_out_tokens = dtype_named(engine.dtype), corpus.manifest.splits["held_out"].num_tokens
        strides = decide_strides(recipe, probes, models[0], dtype, total, course, held_out_tokens, ranks)
    return engine, course, strides


def _require_hours(recipe: Recipe, seconds: Sequence[float]) -> None:
    """Raise a `RecipeError` if the hours are too short for one step of each phase."""
    shares, hours = [phase.share for phase in recipe.phases], recipe.budget.hours or 0.0
    least = max(each * sum(shares) / share for each, share in zip(seconds, shares, strict=True)) / 3600
    if hours < least:
        raise RecipeError(
            f"budget.hours is {hours:g}, too short for one step of every phase on this machine",
            f"{least:.2g} hours or more",
            "give more time, or smaller batches (batch.tokens)",
        )


def _seconds_by_flops(recipe: Recipe, flops: Sequence[float], flops_per_second: float) -> list[float]:
    """Return the seconds of a step of each phase, at a rate."""
    return [batch.tokens * each / flops_per_second for batch, each in zip(recipe.batches, flops, strict=True)]


def _effective(engine: EngineRecord) -> float:
    return engine.matmul_flops_per_second * EXPECTED_UTILISATION[torch.device(engine.device).type]
