"""A comparison as it was asked for: its arms, every run of them, the tasks, and the one corpus they share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskwright.comparison.asked import (
    Arm,
    ComparisonFile,
    baseline_of,
    command_of,
    read_comparison,
    resolved_arms,
    seeds_of,
)
from maskwright.comparison.comparison_options import ComparisonOptions
from maskwright.comparison.jobs import Job
from maskwright.core.errors import RecipeError
from maskwright.core.records.run import RunFolder, RunRecord
from maskwright.corpus.corpus import Corpus, open_corpus
from maskwright.evaluation.catalogue import NamedTask, find_tasks
from maskwright.evaluation.evaluated_model import EvaluatedModel
from maskwright.pipeline.corpora import prepared
from maskwright.pipeline.probes import with_pairs_found
from maskwright.pipeline.recipes import find_plug_ins_in, read_with_overrides, settings_of


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
        untrained: jobs that were not finished.
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
    untrained: set[Job] = field(default_factory=set)

    @property
    def seed(self) -> int:
        """Of the corpus, and of everything that scoring draws: the same for all runs."""
        return self.arms[0].recipe.seed

    @property
    def needs_corpus(self) -> bool:
        """Whether any task scores held-out text."""
        return any(named.task.needs_corpus for named in self.tasks)


def comparison_of(files: Sequence[Path], how: ComparisonOptions) -> Comparison:
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
    for index in range(max(map(len, of_arm.values()))):
        for arm in arms:
            if index >= len(of_arm[arm.name]):
                continue
            seed = of_arm[arm.name][index]
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


SEARCH = "search"
"""The preset by which runs are fine-tuned where nothing says which learning rates to take."""


def has_open_rate(named: NamedTask) -> bool:
    """Return whether a task fine-tunes, and neither its file nor a setting says with which learning rate."""
    return named.task.is_repeated and named.task.config.training.is_rate_open


def tasks_of(asked: ComparisonFile, how: ComparisonOptions, arms: Sequence[Arm]) -> list[NamedTask]:
    """Return what the runs are scored by; held-out text in pieces that every arm can read."""
    find_plug_ins_in(Path())
    names, settings = asked.tasks, dict(asked.task_settings)
    if how.tasks is not None:
        names = [name.strip() for name in how.tasks.split(",") if name.strip()]
        # What the file says about tasks that are not asked for now says nothing.
        dropped = {named.name for named in find_tasks(asked.tasks, {})} - {
            named.name for named in find_tasks(names, {})
        }
        settings = {key: value for key, value in settings.items() if key.partition(".")[0] not in dropped}
    settings |= settings_of(how.task_set)
    if how.preset is not None:
        settings = {"training.preset": how.preset} | settings
    # Arms may like different rates: each gets the same search, on text held back from training.
    undecided = [named.name for named in find_tasks(names, settings) if has_open_rate(named)]
    settings = {f"{name}.training.preset": SEARCH for name in undecided} | settings
    limits = {arm.recipe.max_positions for arm in arms}
    if "held_out" in names and len(limits) > 1:
        settings = {"held_out.sequence_length": min(limits)} | settings
    return find_tasks(names, settings)


def require_data(comparison: Comparison) -> None:
    """Refuse tasks whose data is not there, before hours go into training.

    Raises:
        MissingData: a data set is not there; says where to get it.
    """
    for named in comparison.tasks:
        if not named.task.needs_corpus:
            named.task.data_sha256(EvaluatedModel(Path(), None, comparison.data))


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
