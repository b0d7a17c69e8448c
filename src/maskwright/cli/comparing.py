"""The work of `maskwright compare`: train what is not trained yet, score every run, weigh the differences, tell.

Only here do training, evaluation and reports of several runs meet. Every run is `maskwright train` in a process of its
own (`cli/launching.py`); scoring is done here, one model after the other.
"""

import contextlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskwright.cli.arms import (
    Arm,
    ComparisonFile,
    baseline_of,
    budget_in_words,
    command_of,
    read_comparison,
    resolved_arms,
    seeds_of,
)
from maskwright.cli.compare import HowToCompare
from maskwright.cli.comparison_notes import notes_of
from maskwright.cli.launching import launch, problem_in_words
from maskwright.cli.printing import print_table
from maskwright.cli.probes import with_pairs_found
from maskwright.cli.recipes import find_plug_ins_in, read_with_overrides, settings_of
from maskwright.cli.run_states import Job, State, expected_seconds, run_record, state_of
from maskwright.core.comparison_records import ArmRecord, RecipeComparison, comparison_record
from maskwright.core.errors import MaskwrightError, RecipeError, RunFolderBusy, RunsFailed
from maskwright.core.hardware import environment
from maskwright.core.log import printable, say, warn
from maskwright.core.records import RunFolder, RunRecord
from maskwright.corpus.corpus import Corpus, open_corpus
from maskwright.evaluation.arms import compare_arms, measures_of, scores_of_run
from maskwright.evaluation.catalogue import NamedTask, find_tasks
from maskwright.evaluation.run import evaluate
from maskwright.evaluation.subject import Subject
from maskwright.reports.comparison import write_comparison
from maskwright.reports.comparison_tables import costs_table, differences_table, plan_table, scores_table
from maskwright.training.corpora import prepared
from maskwright.training.differences import differing
from maskwright.training.health import exclusive


@dataclass
class Comparison:
    """A comparison that was asked for, resolved.

    Attributes:
        title: heading of the page.
        arms: what is compared.
        jobs: every run, the first seed of all arms first, so that a whole comparison is there early.
        tasks: what the runs are scored by.
        data: folder with the tasks' data sets.
        baseline: name of an arm.
        out: where everything goes.
        corpora: where prepared corpora go.
        command: what goes on with it.
        problems: why a job was not finished or not scored.
    """

    title: str
    arms: list[Arm]
    jobs: list[Job]
    tasks: list[NamedTask]
    data: Path | None
    baseline: str
    out: Path
    corpora: Path
    command: str
    problems: dict[Job, str] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """Of the corpus, and of everything that scoring draws: the same for all runs."""
        return self.arms[0].recipe.seed

    @property
    def needs_corpus(self) -> bool:
        """Whether any task scores held-out text."""
        return any(named.task.needs_corpus for named in self.tasks)


def compare(files: Sequence[Path], how: HowToCompare) -> None:
    """Compare as the command line says.

    Raises:
        RunsFailed: some runs could not be finished or scored; the others are in the table.
        MaskwrightError: something can't be used; nothing was trained.
    """
    comparison = comparison_of(files, how)
    require_data(comparison)
    states = {job: state_of(job) for job in comparison.jobs}
    print_table(plan_table(*plan_rows(comparison, states)))
    if how.dry_run:
        for job, state in states.items():
            if not state.is_finished:
                print(shlex.join(["maskwright", *arguments_of(job, state, None)]))
        return
    with held(comparison.out), told_how_to_go_on(comparison.command):
        corpus = corpus_of(comparison)
        for number, job in enumerate(comparison.jobs, start=1):
            say(f"[bold]{printable(job.label)}[/bold] ({number} of {len(comparison.jobs)})")
            see_through(job, comparison, corpus)
        record = record_of_comparison(comparison, corpus)
        record.write(comparison_record(comparison.out))
        page = write_comparison(comparison.out)
    print_table(scores_table(record))
    print_table(costs_table(record))
    if record.differences:
        print_table(differences_table(record))
    print(f"comparison: {page}")
    if comparison.problems:
        raise RunsFailed(
            f"{len(comparison.problems)} of {len(comparison.jobs)} runs failed: "
            + "; ".join(f"{job.label}: {problem}" for job, problem in list(comparison.problems.items())[:3]),
            "every run finished and scored",
            f"the messages are above; to try again: {comparison.command}",
        )


def comparison_of(files: Sequence[Path], how: HowToCompare) -> Comparison:
    """Read what is asked for and resolve it; nothing is written.

    Raises:
        RecipeError: it makes no sense.
    """
    asked = read_comparison(files, how)
    arms = resolved_arms(asked, how)
    stem = files[0].stem if len(files) == 1 else "-".join(arm.folder_name for arm in arms)[:80]
    out = how.out or Path("compare") / stem
    seeds = seeds_of(asked, how, arms[0].recipe.seed)
    data = how.data or (Path(asked.data) if asked.data else None)
    return Comparison(
        title=asked.comparison,
        arms=arms,
        jobs=jobs_of(arms, seeds, out),
        tasks=tasks_of(asked, how, arms),
        data=data,
        baseline=baseline_of(asked, how, arms),
        out=out,
        corpora=how.corpora or out / "corpora",
        command=command_of(files, how, out),
    )


def jobs_of(arms: Sequence[Arm], seeds: Sequence[int], out: Path) -> list[Job]:
    """Return every run, seed by seed and within a seed arm by arm."""
    of_arm = {arm.name: list(arm.runs) if arm.path is None else list(seeds) for arm in arms}
    jobs = []
    for place in range(max(map(len, of_arm.values()))):
        for arm in arms:
            if place >= len(of_arm[arm.name]):
                continue
            seed = of_arm[arm.name][place]
            label = f"{arm.folder_name}-seed{seed}"
            if arm.path is None:
                job = Job(arm.name, seed, label, RunFolder(arm.runs[seed]), out / "evaluation" / label)
            else:
                settings = (*arm.settings, f"seed={seed}")
                recipe = with_pairs_found(read_with_overrides(arm.path, (), settings))
                run = RunFolder(out / "runs" / label)
                job = Job(arm.name, seed, label, run, out / "evaluation" / label, arm.path, settings, recipe)
            jobs.append(job)
    return jobs


def tasks_of(asked: ComparisonFile, how: HowToCompare, arms: Sequence[Arm]) -> list[NamedTask]:
    """Return what the runs are scored by; held-out text in pieces that every arm can read."""
    names = asked.tasks if how.tasks is None else [name.strip() for name in how.tasks.split(",") if name.strip()]
    settings = dict(asked.task_settings) | settings_of(how.task_set)
    if how.preset is not None:
        settings = {"training.preset": how.preset} | settings
    limits = {arm.recipe.max_positions for arm in arms}
    if "held_out" in names and len(limits) > 1:
        settings = {"held_out.sequence_length": min(limits)} | settings
    find_plug_ins_in(Path())
    return find_tasks(names, settings)


def require_data(comparison: Comparison) -> None:
    """Refuse tasks whose data is not there, before hours go into training.

    Raises:
        MissingData: a data set is not there; says where to get it.
    """
    for named in comparison.tasks:
        if not named.task.needs_corpus:
            named.task.data_sha256(Subject(Path(), None, comparison.data))


def plan_rows(comparison: Comparison, states: Mapping[Job, State]) -> tuple[str, list[tuple[str, str, float | None]]]:
    """Return the title and, for each run, its label, what will be done and the seconds that it will take."""
    seconds = expected_seconds(states)
    rows = [(job.label, state.in_words, seconds[job]) for job, state in states.items()]
    return comparison.title, rows


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


def corpus_of(comparison: Comparison) -> Corpus | None:
    """Return the corpus that all runs share, prepared once; None where runs of other corpora are scored without it.

    Raises:
        RecipeError: held-out text is to be scored, and a run was trained on another corpus.
    """
    trained_here = [arm for arm in comparison.arms if arm.path is not None]
    before = {run: RunRecord.read(RunFolder(run).run_record) for arm in comparison.arms for run in arm.runs.values()}
    if trained_here:
        corpus = prepared(trained_here[0].recipe, comparison.corpora)
    elif comparison.needs_corpus:
        corpus = open_corpus(Path(next(iter(before.values())).corpus), verify=True)
    else:
        return None
    for run, record in before.items():
        if comparison.needs_corpus and record.corpus_sha256 != corpus.manifest.content_sha256:
            raise RecipeError(
                f"{run} was trained on another corpus than {corpus.folder}: other text, or another tokenizer",
                "one corpus, as the tasks are about its held-out text",
                f"train it with --corpus {corpus.folder}, or choose other --tasks, such as blimp",
            )
    return corpus


def arguments_of(job: Job, state: State, corpus: Corpus | None) -> list[str]:
    """Return what makes, or goes on with, a run."""
    if state.is_begun:
        return ["train", "--run", str(job.run.path), "--resume"]
    settings = [part for setting in job.settings for part in ("--set", setting)]
    where = str(corpus.folder) if corpus else "CORPUS"
    return ["train", str(job.recipe_path), *settings, "--corpus", where, "--run", str(job.run.path)]


def see_through(job: Job, comparison: Comparison, corpus: Corpus | None) -> None:
    """Train a run if it is not trained yet, and score it; note what went wrong and leave the others alone.

    Raises:
        SystemExit: a signal asked to stop; the run was saved.
    """
    state = state_of(job, corpus)
    if not state.is_finished:
        ended = launch(arguments_of(job, state, corpus))
        if ended.stopped_by is not None:
            raise SystemExit(128 + ended.stopped_by)
        if ended.code:
            comparison.problems[job] = problem_in_words(ended.code)
            warn(f"{printable(job.label)} failed: {comparison.problems[job]}; the others go on")
            return
    try:
        subject = Subject(job.run.model, corpus if comparison.needs_corpus else None, comparison.data)
        # Fine-tuned with the run's own seed: a seed stands for everything that chance decides.
        outcome = evaluate(subject, comparison.tasks, job.evaluation, comparison.seed, first_seed=job.seed)
        if outcome.missing is not None:
            raise outcome.missing
    except MaskwrightError as error:
        comparison.problems[job] = f"not scored: {error.got}"
        warn(f"{printable(job.label)} could not be scored: {printable(str(error))}")


def record_of_comparison(comparison: Comparison, corpus: Corpus | None) -> RecipeComparison:
    """Return the record: scores of all runs, means, differences from the baseline, and what a reader must know."""
    measures = measures_of(comparison.tasks)
    scored = {
        arm.name: {
            job.seed: job.evaluation
            for job in comparison.jobs
            if job.arm == arm.name and job not in comparison.problems
        }
        for arm in comparison.arms
    }
    compared = compare_arms(comparison.tasks, measures, scored, comparison.baseline, comparison.seed)
    differences = differing({arm.name: arm.recipe for arm in comparison.arms})
    arms = [
        ArmRecord(
            name=arm.name,
            source=str(arm.path) if arm.path else "trained before",
            settings=[setting for setting in arm.settings if not setting.startswith(("name=", "budget="))],
            differing=differences[arm.name],
            runs=[
                run_record(job, comparison.problems.get(job), comparison.out, scores_of_run(job.evaluation, measures))
                for job in comparison.jobs
                if job.arm == arm.name
            ],
            scores=compared.scores[arm.name],
        )
        for arm in comparison.arms
    ]
    budgets = {budget_in_words(arm.recipe.budget) for arm in comparison.arms}
    return RecipeComparison(
        title=comparison.title,
        command=comparison.command,
        baseline=comparison.baseline,
        budget=" or ".join(sorted(budgets)),
        corpus=str(corpus.folder) if corpus else "",
        corpus_sha256=corpus.manifest.content_sha256 if corpus else "",
        evaluation_seed=comparison.seed,
        arms=arms,
        measures=measures,
        differences=compared.differences,
        num_resamples=compared.num_resamples,
        notes=[*notes_of(comparison.arms, arms, compared, measures), *compared.notes],
        environment=environment(),
    )
