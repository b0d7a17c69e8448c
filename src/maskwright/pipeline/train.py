"""The whole journey of `maskwright train`: corpus, training, export, evaluation, report.

The stages meet in the run folder. Only here do training and evaluation meet, so that neither imports the other.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskwright.core.errors import MaskwrightError, RecipeError, RunFolderBusy, RunInterrupted, StorageError
from maskwright.core.files import remove_folder
from maskwright.core.hardware import default_device
from maskwright.core.log import say, warn
from maskwright.core.ranks import Ranks
from maskwright.core.records.evaluation import EvaluationRecord
from maskwright.core.records.run import ResultRecord, RunFolder, RunRecord, record_of
from maskwright.corpus.corpus import Corpus, open_corpus
from maskwright.encoders.encoder import Encoder
from maskwright.evaluation.catalogue import find_tasks
from maskwright.evaluation.run_tasks import evaluate
from maskwright.export.folder import import_model
from maskwright.heads.token_head import TokenHead
from maskwright.pipeline.chosen_recipe import require_recipe_or_means, with_hours
from maskwright.pipeline.corpora import prepared
from maskwright.pipeline.evaluated_model import subject_of
from maskwright.pipeline.locate import model_folder_of
from maskwright.pipeline.probes import probes_of, with_pairs_found
from maskwright.pipeline.recipes import (
    RecipeLike,
    Settings,
    folder_of,
    names_of,
    read_with_overrides,
    settings_of,
)
from maskwright.reports.html import write_report
from maskwright.reports.model_card import write_model_card
from maskwright.reports.terminal.print_results import print_plan
from maskwright.reports.terminal.print_tables import print_records
from maskwright.training.checkpoint import Checkpoints
from maskwright.training.distributed import join_ranks, leave_ranks
from maskwright.training.engine.decide import require_machine
from maskwright.training.export_checkpoint import export_run
from maskwright.training.loop import TrainingLoop
from maskwright.training.recipe.differences import first_difference
from maskwright.training.recipe.recipe import EncoderSection, Recipe, parse_recipe
from maskwright.training.run import assemble_run, corpus_folder_of, require_first_weights, with_corpus_at
from maskwright.training.safety.lock import exclusive
from maskwright.training.trained_run import recipe_of_run, require_same_updates
from maskwright.training.watching.energy import energy_meter


def require_sensible(recipe: RecipeLike | None, run: Path | None, has_changes: bool) -> None:
    """Raise a `RecipeError` if a command line with `--resume` does not say "go on with that run" alone."""
    if run is None:
        raise RecipeError("--resume without --run", "the run folder to go on with, such as --run runs/mine")
    if recipe is not None or has_changes:
        raise RecipeError(
            "--resume with a recipe, --data, --hours or --from",
            "--run and --resume, --set for a learning rate or clip norm, --corpus if that was moved: the run knows its "
            "recipe",
        )


def require_one_text(corpus: str | Path | None, has_another: bool) -> None:
    """Raise a `RecipeError` if a prepared corpus is named beside other text or another tokenizer."""
    if corpus is not None and has_another:
        raise RecipeError(
            "--corpus with --data or --from", "one of them: a prepared corpus has its text and its tokenizer"
        )


def train(
    recipe: RecipeLike | None = None,
    *,
    data: Sequence[str] | str | Path = (),
    hours: float | None = None,
    run: str | Path | None = None,
    resume: bool = False,
    from_model: str | Path | None = None,
    set: Settings = (),
    corpora: str | Path | None = None,
    corpus: str | Path | None = None,
) -> RunRecord:
    """Prepare text, train, export, evaluate and report; or go on with a run that was stopped.

    Args:
        recipe: a YAML file's path, a mapping of what would stand in one, or a `Recipe`; left out to resume, or with
            `data` and `hours`, for which one is chosen.
        data: text instead of the recipe's: files, folders, globs, hf:dataset/config/split or builtin:docstrings.
        hours: of training, instead of the recipe's budget.
        run: folder of the run; runs/NAME by default, NAME being the recipe's name.
        resume: go on with the run in `run`, from its newest whole checkpoint.
        from_model: a folder with any masked encoder, or a run, to continue from.
        set: values that replace the recipe's, by dotted key: a mapping, or "key=value" strings; with `resume`, a
            learning rate or `optimizer.clip_norm` from the next step on.
        corpora: folder for prepared corpora; the folder `corpora` next to the run by default.
        corpus: one that was prepared before, instead of the recipe's text; with `resume`, where the run's own is now.

    Returns:
        The record of the finished run.

    Raises:
        MaskwrightError: something can't be used; the message says what to do.
        RunInterrupted: a signal asked to stop; the run was saved.
    """
    run = None if run is None else Path(run)
    texts = names_of(data)
    if resume:
        require_sensible(recipe, run, bool(data or hours or from_model))
    else:
        require_recipe_or_means(recipe, texts, hours, from_model)
    ranks = join_ranks(default_device())
    try:
        if resume:
            assert run is not None
            return go_on(run, ranks, settings_of(set), None if corpus is None else Path(corpus))
        require_one_text(corpus, bool(data or from_model is not None))
        settings, start_from = settings_of(set), None
        if from_model is not None:
            start_from = model_folder_of(from_model)
            settings["tokenizer.existing"] = str(start_from)
        chosen, reasons = with_hours(recipe, texts, hours, settings, ranks)
        if ranks.is_first and reasons:
            print_plan(reasons)
        parsed = read_with_overrides(chosen, texts, settings)
        folder = run or Path("runs") / parsed.name
        prepared_in = folder.parent / "corpora" if corpora is None else Path(corpora)
        known = None if corpus is None else Path(corpus)
        return begin(parsed, folder_of(chosen), folder, prepared_in, known, start_from, ranks)
    finally:
        leave_ranks()


def begin(
    recipe: Recipe,
    recipe_folder: Path,
    run: Path,
    corpora: Path,
    prepared_corpus: Path | None,
    from_model: Path | None,
    ranks: Ranks,
) -> RunRecord:
    """Begin a run and see it through; see `train` for the arguments."""
    recipe = with_pairs_found(recipe)
    require_machine(recipe)
    start_from = None
    if from_model is not None:
        recipe, start_from = start_from_model(recipe, from_model)
    folder = RunFolder(run)
    with exclusive_for_ranks(folder, ranks):
        _require_unused(folder, recipe)
        if ranks.is_first:
            _make_room(folder)
        ranks.wait()
        known = prepared_corpus
        corpus = prepared(recipe, corpora) if known is None else open_corpus(known, verify=True)
        loop = TrainingLoop(
            assemble_run(
                recipe,
                corpus,
                folder,
                ranks,
                probes_of(recipe, corpus),
                start_from=start_from,
                recipe_folder=recipe_folder,
            )
        )
        return _see_through(loop, corpus)


def go_on(run: Path, ranks: Ranks, settings: Mapping[str, Any] | None = None, corpus: Path | None = None) -> RunRecord:
    """Go on with a run that was stopped, wherever it was.

    Args:
        run: its folder.
        ranks: all processes of the run.
        settings: see `TrainingLoop.resume`.
        corpus: where its corpus is now, which is written down; None: where it was.
    """
    folder = RunFolder(run)
    record_of(run)  # before the folder is locked, which would make it
    with exclusive_for_ranks(folder, ranks):
        record = record_of(run)
        if corpus is not None:
            record = with_corpus_at(record, corpus)
            if ranks.is_first:
                record.write(folder.run_record)
        if record.status == "finished" and folder.report.exists() and not settings:
            say(f"{run} is finished already; its report is {folder.report}")
            return record
        recipe = recipe_of_run(record, str(folder.run_record))
        require_same_updates(record, str(folder.run_record))
        require_first_weights(record, folder)
        found = open_corpus(corpus_folder_of(record, run), verify=True)
        assembled = assemble_run(recipe, found, folder, ranks, probes_of(recipe, found), before=record)
        loop = TrainingLoop(assembled, record.setting_changes)
        loop.resume(settings)
        return _see_through(loop, found)


def start_from_model(recipe: Recipe, folder: Path) -> tuple[Recipe, tuple[Encoder, TokenHead]]:
    """Read the weights that a run continues from.

    Args:
        recipe: of the run.
        folder: of the model.

    Returns:
        The recipe with the encoder of those weights, so that a resumed run builds the same one; and the weights.

    Raises:
        ExportError: there is no masked encoder.
    """
    imported = import_model(folder)
    if not imported.has_trained_head:
        warn(f"{folder} has no vocabulary head; a fresh one takes its place")
    config = imported.encoder.config
    section = EncoderSection(
        family=imported.family, size=None, overrides=config.overrides(), max_positions=config.max_positions
    )
    changed = recipe.model_copy(update={"encoder": section}).model_dump(mode="json")
    return parse_recipe(changed, "recipe with --from"), (imported.encoder, imported.head)


def _require_unused(folder: RunFolder, recipe: Recipe) -> None:
    """Refuse to begin where a run is, unless it never made a step and has nothing to lose.

    Raises:
        RecipeError: the folder holds a run; its state, or the first difference to this recipe, is named.
    """
    if not any(Checkpoints(folder.checkpoints, keep_last=1, keep_best=True).steps()):
        return
    if not folder.run_record.exists():
        raise RecipeError(f"{folder.checkpoints} holds checkpoints of a run without run.json", "a folder without a run")
    record = RunRecord.read(folder.run_record)
    difference = first_difference(record.recipe, recipe.model_dump(mode="json"))
    raise RecipeError(
        f"{folder.path} holds a run" + (f" of another recipe: {difference}" if difference else f", {record.status}"),
        "a folder without a run",
        f"choose another --run, or go on with that one: maskwright train --run {folder.path} --resume",
    )


def _make_room(folder: RunFolder) -> None:
    """Remove what is left of a run that never made a step."""
    folder.run_record.unlink(missing_ok=True)
    if folder.checkpoints.exists():
        remove_folder(folder.checkpoints)


@contextlib.contextmanager
def exclusive_for_ranks(folder: RunFolder, ranks: Ranks) -> Iterator[None]:
    """Hold the run folder for all ranks; what the first is refused, all are.

    Raises:
        RunFolderBusy: another process holds it.
    """
    refused: MaskwrightError | None = None
    with contextlib.ExitStack() as held:
        if ranks.is_first:
            try:
                held.enter_context(exclusive(folder.path))
            except MaskwrightError as error:
                refused = error
        if ranks.any(refused is not None, default_device()):
            raise refused or RunFolderBusy(f"{folder.path} can't be had", "see the first process's message")
        yield


def _see_through(loop: TrainingLoop, corpus: Corpus) -> RunRecord:
    """Train to the end, then export, evaluate and report; note in the run's record how far it came."""
    folder, ranks = loop.run.folder, loop.run.ranks

    def note(**news: object) -> None:
        if ranks.is_first:
            RunRecord.read(folder.run_record).model_copy(update=news).write(folder.run_record)

    note(status="running", setting_changes=loop.recipe.changes)
    meter = energy_meter(loop.run.recipe.energy, loop.run.engine)
    try:
        with meter:
            result = loop.train()
    except BaseException as error:
        was_stopped = not isinstance(error, Exception)
        with contextlib.suppress(StorageError):  # a full disk is why it failed: that is to be told
            note(
                status="interrupted" if was_stopped else "failed",
                energy=meter.record(RunRecord.read(folder.run_record).energy),
            )
        if was_stopped:
            say(f"go on with: maskwright train --run {folder.path} --resume")
        raise
    energy = meter.record(RunRecord.read(folder.run_record).energy)
    if loop.interrupted_by is not None and not loop.is_at_end:
        note(status="interrupted", result=result, energy=energy)
        message = f"saved after step {result.step}; go on with: maskwright train --run {folder.path} --resume"
        say(message)
        raise RunInterrupted(message, int(loop.interrupted_by))
    note(result=result, energy=energy)
    ranks.wait()
    if ranks.is_first:
        _finish(folder, corpus, best=result.stopped_early, seed=loop.run.recipe.seed)
    ranks.wait()
    return RunRecord.read(folder.run_record)


def _judged(result: ResultRecord, held_out: EvaluationRecord, fills_masks: bool) -> ResultRecord:
    """Return the result with what the model is worth beside a constant answer, if it was trained to fill masks."""
    if not fills_masks:
        return result
    ours, constant = held_out.scores["cross_entropy"], held_out.baselines["unigram"]["cross_entropy"]
    return result.model_copy(update={"held_out_cross_entropy": ours, "constant_cross_entropy": constant})


def _finish(folder: RunFolder, corpus: Corpus, best: bool, seed: int) -> None:
    result = RunRecord.read(folder.run_record).result
    export_run(folder.path, "best" if best and result is not None and result.best_step is not None else "newest")
    subject = subject_of(folder.model, corpus)
    records = evaluate(subject, find_tasks(["held_out"], {}), folder.evaluation, seed).records
    print_records(records)
    record = RunRecord.read(folder.run_record)
    assert record.result is not None
    result = _judged(record.result, records[0], record.plan.phases[record.exported_phase].fills_masks != "no")
    record.model_copy(update={"status": "finished", "result": result}).write(folder.run_record)
    write_model_card(folder.path)
    write_report(folder.path)
    if result.failure is not None:
        warn(result.failure)
    print(f"model:  {folder.model}")
    print(f"report: {folder.report}")
