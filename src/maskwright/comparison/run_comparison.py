"""The work of `maskwright compare`: train what is not trained yet, score every run, weigh the differences, tell.

Only here do training, evaluation and reports of several runs meet. Every run is `maskwright train` in a process of its
own (`comparison/process.py`); scoring is done here, one model after the other.
"""

import contextlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskwright.comparison.asked import budget_in_words
from maskwright.comparison.comparison import Comparison, comparison_of, corpus_of, require_data
from maskwright.comparison.comparison_options import ComparisonOptions
from maskwright.comparison.jobs import Job, State, expected_seconds, state_of
from maskwright.comparison.process import launch, problem_in_words
from maskwright.comparison.record import record_of_comparison
from maskwright.comparison.statistics import measures_of, scores_of_run
from maskwright.core.errors import MaskwrightError, RunFolderBusy, RunInterrupted, RunsFailed
from maskwright.core.log import printable, say, warn
from maskwright.core.records.comparison import RecipeComparisonRecord, comparison_path
from maskwright.corpus.corpus import Corpus
from maskwright.evaluation.run_tasks import EvaluationFolder, evaluate
from maskwright.pipeline.corpora import corpus_folder
from maskwright.pipeline.evaluated_model import subject_of
from maskwright.reports.comparison.cost_to_quality import cost_to_quality_table
from maskwright.reports.comparison.page import write_comparison
from maskwright.reports.comparison.tables import costs_table, differences_table, heading, plan_table, scores_table
from maskwright.reports.tables import format_value
from maskwright.reports.terminal.print_tables import print_table
from maskwright.training.safety.lock import exclusive


def compare(
    files: Sequence[str | Path], options: ComparisonOptions | None = None, **more: Any
) -> RecipeComparisonRecord | None:
    """Train several recipes under one budget, score every run, weigh the differences, and show them.

    Args:
        files: two recipes or more, or one YAML file that lists them (docs/compare.md); a run folder stands for a recipe
            that was trained before.
        options: under which budget, how often, by what.
        more: fields of `ComparisonOptions` by name, instead of `options`, such as tokens=2_000_000.

    Returns:
        The record; None for a dry run.

    Raises:
        RunsFailed: some runs could not be finished or scored; the others are in the table.
        MaskwrightError: something can't be used; nothing was trained.
    """
    how = options or ComparisonOptions(**more)
    comparison = comparison_of([Path(file) for file in files], how)
    require_data(comparison)
    states = {job: state_of(job) for job in comparison.jobs}
    print_table(plan_table(*plan_rows(comparison, states)), is_result=False)
    say(printable(asked_in_words(comparison)))
    if how.dry_run:
        for arguments in commands_of(comparison, states):
            print(shlex.join(["maskwright", *arguments]))
        return None
    with held(comparison.out), told_how_to_go_on(comparison.command):
        corpus = corpus_of(comparison)
        for number, job in enumerate(comparison.jobs, start=1):
            say(f"[bold]{printable(job.label)}[/bold] ({number} of {len(comparison.jobs)})")
            see_through(job, comparison, corpus)
        record = record_of_comparison(comparison, corpus)
        record.write(comparison_path(comparison.out))
        page = write_comparison(comparison.out)
    print_table(scores_table(record))
    print_table(costs_table(record))
    if reached := cost_to_quality_table(record):
        print_table(reached)
    if record.differences:
        print_table(differences_table(record), spare=["p items", "p seeds", "seeds"])
    print(f"comparison: {page}")
    if comparison.problems:
        job, problem = next(iter(comparison.problems.items()))
        raise RunsFailed(
            f"{len(comparison.problems)} of {len(comparison.jobs)} runs failed; {job.label}: {problem}",
            "every run finished and scored",
            f"the messages are above; to try again: {comparison.command}",
        )
    return record


def plan_rows(comparison: Comparison, states: Mapping[Job, State]) -> tuple[str, list[tuple[str, str, float | None]]]:
    """Return the title and, for each run, its label, what will be done and the seconds that it will take."""
    seconds = expected_seconds(states)
    rows = [(job.label, state.in_words, seconds[job]) for job, state in states.items()]
    return comparison.title, rows


def asked_in_words(comparison: Comparison) -> str:
    """Return under which budget, by what and where in one line."""
    trained_here = [arm for arm in comparison.arms if arm.path is not None]
    budget = [f"{budget_in_words(trained_here[0].recipe.budget)} a run"] if trained_here else []
    tasks = ", ".join(named.name for named in comparison.tasks)
    return "; ".join([*budget, f"scored by {tasks}", f"against {comparison.baseline}", f"in {comparison.out}"])


@contextlib.contextmanager
def held(out: Path) -> Iterator[None]:
    """Hold the comparison's folder for this process."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive(out))
        except RunFolderBusy as error:
            raise RunFolderBusy(error.got, "a comparison of its own", "wait for it, or choose another --out") from error
        yield


@contextlib.contextmanager
def told_how_to_go_on(command: str) -> Iterator[None]:
    """Say how a comparison that is stopped can be continued."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception):
            say(f"go on with the comparison: {printable(command)}")
        raise


def commands_of(comparison: Comparison, states: Mapping[Job, State]) -> list[list[str]]:
    """Return the arguments of `maskwright` that leave nothing to train, the preparation of the corpus first."""
    unfinished = {job: state for job, state in states.items() if not state.is_finished}
    trained_here = [arm for arm in comparison.arms if arm.path is not None]
    if not unfinished or not trained_here:
        return []
    most_marked = max(trained_here, key=lambda arm: len(arm.recipe.marks))
    corpus = corpus_folder(most_marked.recipe, comparison.corpora)
    prepare = ["prepare", str(most_marked.path), *as_options(most_marked.settings), "--out", str(comparison.corpora)]
    return [prepare, *(arguments_of(job, state, corpus) for job, state in unfinished.items())]


def arguments_of(job: Job, state: State, corpus: Path) -> list[str]:
    """Return what makes, or goes on with, a run."""
    if state.is_begun:
        return ["train", "--run", str(job.run.path), "--resume"]
    options = [*as_options(job.settings), "--corpus", str(corpus), "--run", str(job.run.path)]
    return ["train", str(job.recipe_path), *options]


def as_options(settings: Sequence[str]) -> list[str]:
    """Return settings as the command line takes them."""
    return [part for setting in settings for part in ("--set", setting)]


def see_through(job: Job, comparison: Comparison, corpus: Corpus | None) -> None:
    """Train a run if it is not trained yet, and score it; note what went wrong and leave the others alone.

    Raises:
        RunInterrupted: a signal asked to stop; the run was saved.
    """
    state = state_of(job, corpus)
    if not state.is_finished:
        assert corpus is not None  # where anything is trained there is one
        ended = launch(arguments_of(job, state, corpus.folder))
        if ended.stopped_by is not None:
            raise RunInterrupted(f"stopped; go on with: {comparison.command}", ended.stopped_by)
        if ended.code:
            comparison.untrained.add(job)
            comparison.problems[job] = problem_in_words(ended.code)
            warn(f"{printable(job.label)} failed: {comparison.problems[job]}; the others go on")
            return
    score(job, comparison, corpus)
    say(scores_in_words(job, comparison))


def scores_in_words(job: Job, comparison: Comparison) -> str:
    """Return the scores of a run in one line."""
    measures = measures_of(comparison.tasks)
    scores = scores_of_run(job.evaluation, measures)
    said = [
        f"{heading(each)} {format_value(each.metric, scores[each.name])}" for each in measures if each.name in scores
    ]
    return printable(f"{job.label}: " + ("; ".join(said) or "no scores"))


def score(job: Job, comparison: Comparison, corpus: Corpus | None) -> None:
    """Score a run by every task; note by which it could not be."""
    subject = subject_of(job.run.model, corpus if comparison.needs_corpus else None, comparison.data)
    for named in comparison.tasks:
        try:
            # Fine-tuned with the run's own seed: a seed stands for everything that chance decides.
            outcome = evaluate(subject, [named], job.evaluation, comparison.seed, first_seed=job.seed)
            if outcome.missing is not None:
                raise outcome.missing
        except MaskwrightError as error:
            # What an earlier comparison found with other settings is not to stand in for it.
            EvaluationFolder(job.evaluation).record(named.name).unlink(missing_ok=True)
            comparison.problems[job] = f"not scored by {named.title}: {error.got}"
            warn(f"{printable(job.label)} could not be scored by {named.title}: {printable(str(error))}")
