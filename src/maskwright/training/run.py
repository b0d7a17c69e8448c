"""Starts a run or takes it up again: decides about the machine, assembles the parts, writes down what was decided."""

import datetime
from collections.abc import Mapping
from pathlib import Path

import torch

from maskwright.core.errors import CheckpointError
from maskwright.core.hardware import (
    available_memory_bytes,
    can_compile,
    environment,
)
from maskwright.core.log import say
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import EngineRecord, RunFolder, RunRecord
from maskwright.corpus.corpus import Corpus
from maskwright.encoders.encoder import Encoder
from maskwright.export import require_exportable
from maskwright.heads.token_head import TokenHead
from maskwright.optim.optimizers import Optimizers
from maskwright.training.checkpoint import Checkpoints, TrainingState
from maskwright.training.engine.cross_entropy_choice import (
    CROSS_ENTROPY,
    decide_cross_entropy,
    use_cross_entropy,
)
from maskwright.training.engine.decide import decide_engine, keep_decisions
from maskwright.training.engine.plan import (
    check_resources,
    dtype_named,
    fix_course,
    footprint,
    phase_flops_per_token,
    plan_record,
    require_memory,
)
from maskwright.training.engine.timing import seconds_of_steps
from maskwright.training.loop import Run
from maskwright.training.model import Model, build_model
from maskwright.training.recipe.recipe import Recipe
from maskwright.training.step_batches import StepBatches
from maskwright.training.timeline import Course
from maskwright.training.watching.held_out_loss import HeldOutLoss
from maskwright.training.watching.probing import Probe, Probing, decide_strides, is_timing_needed, occasions_of
from maskwright.training.watching.word_checkpoints import word_marks

SECONDS_WORTH_COMPILING = {"cpu": 900.0, "cuda": 300.0}
"""Training time, uncompiled, from which `compile: auto` compiles: it takes about a minute and wins about a fifth."""

SHARE_OF_TIMING = 0.02
"""Of a budget in hours: so long are steps timed to turn it into steps ..."""

MOST_SECONDS_OF_TIMING = 60.0
"""... at most."""


def assemble_run(
    recipe: Recipe,
    corpus: Corpus,
    folder: RunFolder,
    ranks: Ranks,
    probes: Mapping[str, Probe],
    *,
    start_from: tuple[Encoder, TokenHead] | None = None,
    before: RunRecord | None = None,
    recipe_folder: Path | None = None,
) -> Run:
    """Assemble a new run, or one that was begun, and write its record.

    Args:
        recipe: validated.
        corpus: prepared.
        folder: of the run.
        ranks: all processes of the run.
        probes: by name, handed in by the command line; the one that costs least comes first.
        start_from: weights to continue from.
        before: the run's record when it is resumed; what it decided stays decided.
        recipe_folder: where plug-ins of the user's own are looked for.

    Raises:
        MemoryShortage: the batch can't fit.
        CheckpointError: the run was begun on another corpus.
        ExportError: the encoder could not be exported.
    """
    if before is not None:
        require_same_corpus(before, corpus)
    engine, model = _engine_and_model(recipe, corpus, ranks, start_from, before)
    flops = phase_flops_per_token(recipe, model)
    numbers = ranks.own_micro_batches(recipe.batch.tokens // recipe.batch.micro_batch_tokens)
    if before is not None:
        course = Course(tuple(phase.num_steps for phase in before.plan.phases), recipe.fresh_schedules)
        strides = before.plan.probe_strides
    else:
        check_resources(recipe, model, corpus, available_memory_bytes(torch.device(engine.device)))
        engine, course, strides = _measure_and_fix(recipe, corpus, model, engine, flops, ranks, numbers, probes)
    use_cross_entropy(model, engine)
    run = Run(
        recipe=recipe,
        corpus=corpus,
        folder=folder,
        model=model,
        optimizers=Optimizers(model.root(), recipe.optimizer),
        batches=StepBatches(recipe, corpus, model, course, numbers),
        course=course,
        engine=engine,
        flops_per_token=flops,
        ranks=ranks,
        probing=Probing(probes, occasions_of(recipe, course.num_steps), strides, HeldOutLoss(recipe, corpus, ranks)),
        word_marks=word_marks(recipe.checkpoints.word_marks, corpus.manifest, recipe.batch.tokens, folder),
        tokenizer=corpus.load_tokenizer(),
    )
    if before is None and ranks.is_first:
        _write_down(run, corpus, start_from is not None, recipe_folder)
    return run


def _engine_and_model(
    recipe: Recipe,
    corpus: Corpus,
    ranks: Ranks,
    start_from: tuple[Encoder, TokenHead] | None,
    before: RunRecord | None,
) -> tuple[EngineRecord, Model]:
    """Decide about the machine, and return that with the model on its device; refuse what could not be finished."""
    engine = decide_engine(recipe, ranks)
    if before is not None:
        engine = keep_decisions(engine, before.engine)
    device = torch.device(engine.device)
    model = build_model(recipe, corpus.vocabulary, start_from)
    for phase in recipe.phases:
        model.freeze(phase.freeze)  # refused now, if at all; each phase does it again
    for phase in range(len(recipe.phases)):
        require_exportable(model.encoder, tuple(model.exported_heads(phase)))
    require_memory(recipe, footprint(recipe, model, engine.attention), available_memory_bytes(device))
    model.root().to(device)
    model.use_attention(engine.attention)
    return engine, model


def _write_down(run: Run, corpus: Corpus, has_start: bool, recipe_folder: Path | None) -> None:
    """Write the record of a run that is about to begin, and say what was decided."""
    if has_start:
        # Before the record: a folder that holds a run holds the weights it began with.
        state = TrainingState(step=0, num_tokens=0, num_text_tokens=0, seconds=0.0)
        Checkpoints(run.folder.checkpoints, keep_last=1, keep_best=True).save(
            run.model.tensors(), run.optimizers.state_tensors(), state
        )
    new_record(run, corpus, recipe_folder).write(run.folder.run_record)
    _say_what_was_decided(run)
    run.word_marks.announce(_num_words(run))


def _measure_and_fix(
    recipe: Recipe,
    corpus: Corpus,
    model: Model,
    engine: EngineRecord,
    flops: list[float],
    ranks: Ranks,
    numbers: range,
    probes: Mapping[str, Probe],
) -> tuple[EngineRecord, Course, dict[str, int]]:
    """Decide how steps are made and how often each probe measures, and fix the course; time a step where needed."""
    is_share_bounded, hours = is_timing_needed(recipe), recipe.budget.hours
    total = 0.0 if hours is None else 3600 * hours
    if hours is None and (is_share_bounded or recipe.engine.compile == "auto"):
        uncompiled = engine.model_copy(update={"compiled": False})
        seconds = seconds_of_steps(recipe, corpus, model, uncompiled, ranks, numbers)
        course = fix_course(recipe, flops, None)
        total = sum(steps * each for steps, each in zip(course.phase_steps, seconds, strict=True))
    if recipe.engine.compile == "auto":
        device = torch.device(engine.device)
        worth = SECONDS_WORTH_COMPILING.get(device.type, float("inf"))
        is_worth_it = total > worth and not model.encoder.is_foreign and can_compile(device)
        engine = engine.model_copy(update={"compiled": is_worth_it})
    engine = engine.model_copy(update={"cross_entropy": decide_cross_entropy(recipe, model, engine, ranks)})
    use_cross_entropy(model, engine)
    # Hours are judged by steps as they will be made.
    patience = min(SHARE_OF_TIMING * total, MOST_SECONDS_OF_TIMING)
    seconds = None if hours is None else seconds_of_steps(recipe, corpus, model, engine, ranks, numbers, patience)
    course, strides = fix_course(recipe, flops, seconds), {}
    if is_share_bounded:
        dtype, held_out_tokens = dtype_named(engine.dtype), corpus.manifest.splits["held_out"].num_tokens
        strides = decide_strides(recipe, probes, model, dtype, total, course.num_steps, held_out_tokens, ranks)
    return engine, course, strides


def require_same_corpus(before: RunRecord, corpus: Corpus) -> None:
    """Raise a `CheckpointError` if the corpus is not the one that a run was begun with."""
    found = corpus.manifest.content_sha256
    if found != before.corpus_sha256:
        raise CheckpointError(
            f"{corpus.folder} is not the corpus that the run was begun with",
            f"tokens with the checksum {before.corpus_sha256[:12]}..., found {found[:12]}...",
            "prepare the same text again, or start a new run",
        )


def new_record(run: Run, corpus: Corpus, recipe_folder: Path | None) -> RunRecord:
    """Return the record of a run that is about to begin."""
    recipe, model = run.recipe, run.model
    citations = {}
    for phase, objective in zip(recipe.phases, model.objectives, strict=True):
        citations |= {phase.objective.name: objective.citation, **objective.citations}
    citations[recipe.encoder.family] = model.encoder.citation
    plan = plan_record(recipe, model, run.course, run.flops_per_token)
    return RunRecord(
        name=recipe.name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        status="running",
        recipe=recipe.model_dump(mode="json"),
        recipe_folder=str(recipe_folder.resolve()) if recipe_folder else None,
        corpus=str(corpus.folder.resolve()),
        corpus_sha256=corpus.manifest.content_sha256,
        environment=environment(),
        citations=citations,
        plan=plan.model_copy(update={"total_words": _num_words(run), "probe_strides": dict(run.probing.strides)}),
        engine=run.engine,
    )


def _say_what_was_decided(run: Run) -> None:
    engine = run.engine
    num_parameters = sum(parameter.numel() for _, parameter in run.model.named_parameters())
    say(
        f"{num_parameters / 1e6:.1f} M parameters on {engine.device}, {engine.dtype}, attention {engine.attention}, "
        f"{'compiled' if engine.compiled else 'not compiled'}, {CROSS_ENTROPY[engine.cross_entropy]}; "
        f"{run.course.num_steps} steps, {_num_epochs(run):.1f} passes over the text; "
        f"matrix products reach {engine.matmul_flops_per_second / 1e9:,.0f} GFLOP/s here"
    )


def _num_epochs(run: Run) -> float:
    """Return how often the run sees the training text."""
    return sum(run.batches.num_epochs(phase, steps) for phase, steps in enumerate(run.course.phase_steps))


def _num_words(run: Run) -> int:
    """Return how many words the run will see."""
    return round(_num_epochs(run) * run.word_marks.num_words)
