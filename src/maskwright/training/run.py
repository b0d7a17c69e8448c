"""A run: decided, assembled and written down, before its first step."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from maskwright.core.errors import CheckpointError, CorpusError
from maskwright.core.hardware import environment
from maskwright.core.log import say
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import EngineRecord, PlanRecord, RunFolder, RunRecord
from maskwright.corpus.corpus import Corpus, open_corpus
from maskwright.encoders import growth
from maskwright.encoders.encoder import Encoder
from maskwright.heads.token_head import TokenHead
from maskwright.training.checkpoint import Checkpoints, TrainingState
from maskwright.training.engine.costs import dtype_named
from maskwright.training.engine.cross_entropy_choice import CROSS_ENTROPY
from maskwright.training.engine.plan import RunPlan, plan_run
from maskwright.training.model import Model
from maskwright.training.recipe.recipe import Recipe
from maskwright.training.step_batches import StepBatches
from maskwright.training.timeline import Course
from maskwright.training.watching.held_out_loss import HeldOutLoss
from maskwright.training.watching.probing import Probe, Probing, occasions_of
from maskwright.training.watching.word_checkpoints import WordMarks, word_marks


@dataclass(frozen=True)
class Run:
    """All that is the same in every phase.

    Attributes:
        recipe: validated.
        corpus: prepared.
        folder: where everything is written.
        models: of the first phase, with the weights that the run begins with, until the loop takes it out.
        batches: step and objective -> corrupted micro-batches.
        course: step -> phase and progress.
        engine: what was decided about this machine.
        plan: what was foreseen of each phase.
        ranks: all processes of the run.
        probing: what is measured during the run, and when.
        word_marks: when the model is exported, by words seen.
        tokenizer: goes into those exports.
    """

    recipe: Recipe
    corpus: Corpus
    folder: RunFolder
    models: dict[int, Model]
    batches: StepBatches
    course: Course
    engine: EngineRecord
    plan: PlanRecord
    ranks: Ranks
    probing: Probing
    word_marks: WordMarks
    tokenizer: PreTrainedTokenizerFast

    @property
    def device(self) -> torch.device:
        """Where the run computes."""
        return torch.device(self.engine.device)


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
        CheckpointError: the run was begun on another corpus.
        MemoryShortage, ExportError, RecipeError: see `plan_run`.
    """
    if before is not None:
        require_same_corpus(before, corpus)
    plan = plan_run(recipe, corpus, ranks, probes, around=start_from, before=before)
    course, strides = plan.course, plan.record.probe_strides
    largest_step = max(batch.tokens for batch in recipe.batches)
    run = Run(
        recipe=recipe,
        corpus=corpus,
        folder=folder,
        models={0: plan.models[0]},
        batches=StepBatches(recipe, corpus, course, ranks),
        course=course,
        engine=plan.engine,
        plan=plan.record,
        ranks=ranks,
        probing=Probing(
            probes,
            occasions_of(recipe, course),
            strides,
            HeldOutLoss(recipe, corpus, ranks),
            dtype_named(plan.engine.dtype),
        ),
        word_marks=word_marks(recipe.checkpoints.word_marks, corpus.manifest, largest_step, folder),
        tokenizer=corpus.load_tokenizer(),
    )
    if before is None and ranks.is_first:
        _write_down(run, plan, corpus, start_from is not None, recipe_folder)
    return run


def _write_down(run: Run, plan: RunPlan, corpus: Corpus, has_start: bool, recipe_folder: Path | None) -> None:
    """Write the record of a run that is about to begin, and say what was decided."""
    if has_start:
        # Before the record: a folder that holds a run holds the weights it began with.
        state = TrainingState(step=0, phase=0, num_tokens=0, num_text_tokens=0, seconds=0.0)
        Checkpoints(run.folder.checkpoints, keep_last=1, keep_best=True).save(plan.models[0].tensors(), {}, state)
    record = new_record(run, plan, corpus, recipe_folder)
    record.model_copy(update={"continues_weights": has_start}).write(run.folder.run_record)
    _say_what_was_decided(run, plan)
    run.word_marks.announce(_num_words(run))


def require_same_corpus(before: RunRecord, corpus: Corpus) -> None:
    """Raise a `CheckpointError` if the corpus is not the one that a run was begun with."""
    found = corpus.manifest.content_sha256
    if found != before.corpus_sha256:
        raise CheckpointError(
            f"{corpus.folder} is not the corpus that the run was begun with",
            f"tokens with the checksum {before.corpus_sha256[:12]}..., found {found[:12]}...",
            "prepare the same text again, or start a new run",
        )


def corpus_folder_of(record: RunRecord, run: Path) -> Path:
    """Return the folder of a run's corpus.

    Raises:
        CorpusError: it is not there.
    """
    folder = Path(record.corpus)
    if not folder.exists():
        raise CorpusError(
            f"{folder}, the corpus of {run}, does not exist",
            "the folder that it was prepared in",
            f"if it was moved, name its place: maskwright train --run {run} --resume --corpus FOLDER; else prepare it "
            "again",
        )
    return folder


def with_corpus_at(record: RunRecord, folder: Path) -> RunRecord:
    """Return the record of a run whose corpus was moved to a folder.

    Raises:
        CheckpointError: another corpus is there.
        CorpusError: none is there, or it is damaged.
    """
    require_same_corpus(record, open_corpus(folder, verify=False))
    return record.model_copy(update={"corpus": str(folder.resolve())})


def require_first_weights(record: RunRecord, folder: RunFolder) -> None:
    """Refuse to go on from random weights with a run that began with those of another model.

    Raises:
        CheckpointError: no checkpoint has them.
    """
    if record.continues_weights and not Checkpoints(folder.checkpoints, keep_last=1, keep_best=True).steps():
        raise CheckpointError(
            f"{folder.checkpoints} holds no checkpoint, and the run began with the weights of another model",
            "at least the checkpoint that it began with",
            "restore one from a copy, or begin again, with the recipe and --from",
        )


def new_record(run: Run, plan: RunPlan, corpus: Corpus, recipe_folder: Path | None) -> RunRecord:
    """Return the record of a run that is about to begin."""
    recipe, citations = run.recipe, {}
    for phase, model in zip(recipe.phases, plan.models, strict=True):
        citations |= {phase.objective.name: model.objective.citation, **model.objective.citations}
        if phase.encoder is not None and phase.weights == "continue":
            citations[f"growth: {phase.encoder.new_blocks}"] = growth.CITATION
    citations[recipe.encoder.family] = plan.models[0].encoder.citation
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
        has_checksums=True,
        plan=plan.record.model_copy(update={"total_words": _num_words(run)}),
        engine=run.engine,
    )


def _say_what_was_decided(run: Run, plan: RunPlan) -> None:
    engine = run.engine
    say(
        f"{plan.record.num_parameters / 1e6:.1f} M parameters on {engine.device}, {engine.dtype}, "
        f"attention {engine.attention}, {'compiled' if engine.compiled else 'not compiled'}, "
        f"{CROSS_ENTROPY[engine.cross_entropy]}; "
        f"{run.course.num_steps} steps, {run.batches.num_epochs():.1f} passes over the text; "
        f"matrix products reach {engine.matmul_flops_per_second / 1e9:,.0f} GFLOP/s here"
    )


def _num_words(run: Run) -> int:
    """Return how many words the run will see."""
    return round(run.batches.num_epochs() * run.word_marks.num_words)
