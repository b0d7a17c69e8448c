"""Starts a run or takes it up again: decides about the machine, assembles the parts, writes down what was decided."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from maskwright.core.errors import CheckpointError, RecipeError
from maskwright.core.hardware import (
    available_memory_bytes,
    can_compile,
    default_device,
    environment,
    fastest_dtype,
    matmul_flops_per_second,
)
from maskwright.core.log import say, warn
from maskwright.core.records import EngineRecord, RunFolder, RunRecord
from maskwright.corpus.corpus import Corpus
from maskwright.encoders.attention import OWN_ATTENTION, choose_backend, require_backend
from maskwright.encoders.build import load_family
from maskwright.encoders.encoder import Encoder
from maskwright.export import require_exportable
from maskwright.heads.token_head import TokenHead
from maskwright.optim.optimizers import Optimizers
from maskwright.training.assemble import Model, StepBatches, build_model
from maskwright.training.checkpoint import Checkpoints, TrainingState
from maskwright.training.course import Course
from maskwright.training.distributed import Ranks
from maskwright.training.head import CROSS_ENTROPY, decide_cross_entropy, require_trained_head, use_cross_entropy
from maskwright.training.loop import Run
from maskwright.training.plan import (
    dtype_named,
    fix_course,
    footprint,
    phase_flops_per_token,
    plan_record,
    require_means,
    require_memory,
    require_memory_for_weights,
)
from maskwright.training.probes import Probe, Probing, decide_strides, is_timing_needed, occasions_of
from maskwright.training.recipe import Recipe
from maskwright.training.timing import seconds_of_steps
from maskwright.training.word_marks import word_marks

SECONDS_WORTH_COMPILING = {"cpu": 900.0, "cuda": 300.0}
"""Training time, uncompiled, from which `compile: auto` compiles: it takes about a minute and wins about a fifth."""

SHARE_OF_TIMING = 0.02
"""Of a budget in hours: so long are steps timed to turn it into steps ..."""

MOST_SECONDS_OF_TIMING = 60.0
"""... at most."""


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
            attention = choose_backend(device, dtype, recipe.longest_sequence, family.has_attention_bias)
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
        require_means(recipe, model, corpus, available_memory_bytes(torch.device(engine.device)))
        engine, course, strides = _measure_and_fix(recipe, corpus, model, engine, flops, ranks, numbers, probes)
    use_cross_entropy(model, engine)
    run = Run(
        recipe=recipe,
        corpus=corpus,
        folder=folder,
        model=model,
        optimizers=Optimizers(model.named_parameters(), recipe.optimizer),
        batches=StepBatches(recipe, corpus, model, course, numbers),
        course=course,
        engine=engine,
        flops_per_token=flops,
        ranks=ranks,
        probing=Probing(probes, occasions_of(recipe, course.num_steps), strides),
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
        engine = _same_decisions(engine, before.engine)
    device = torch.device(engine.device)
    model = build_model(recipe, corpus.vocabulary, start_from)
    require_exportable(model.encoder)
    require_trained_head(recipe, model)
    require_memory(recipe, footprint(recipe, model, engine.attention), available_memory_bytes(device))
    model.root().to(device)
    model.encoder.use_attention(engine.attention)
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
    is_share_bounded, hours = is_timing_needed(recipe, probes), recipe.budget.hours
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
        strides = decide_strides(recipe, probes, model, dtype_named(engine.dtype), total, course.num_steps, ranks)
    return engine, course, strides


def _same_decisions(now: EngineRecord, before: EngineRecord) -> EngineRecord:
    """Keep what was decided when the run began; say so if this machine would make the results differ."""
    if torch.device(now.device).type != torch.device(before.device).type:
        warn(f"begun on {before.device}, resumed on {now.device}: the result will not be the same to the last bit")
        return now
    if now.num_ranks != before.num_ranks:
        warn(f"begun with {before.num_ranks} processes, resumed with {now.num_ranks}: same batches, sums may round")
    return before.model_copy(update={"num_ranks": now.num_ranks, "device": now.device})


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
    citations = {str(p.objective["name"]): o.citation for p, o in zip(recipe.phases, model.objectives, strict=True)}
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


def first_difference(one: Any, other: Any, place: str = "") -> str | None:
    """Return the dotted key of the first difference between two recipes, with both values; None if they are equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}, key=str):
            if problem := first_difference(one.get(key), other.get(key), f"{place}.{key}".lstrip(".")):
                return problem
        return None
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            if problem := first_difference(*pair, f"{place}.{index}"):
                return problem
        return None
    return None if one == other else f"{place} is {one!r} there and {other!r} here"


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
