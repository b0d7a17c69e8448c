"""The work of `maskwright evaluate`: one model or two, their tables, the report, the submission.

Only here do evaluation and reports meet, so that neither imports the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from maskwright.core.errors import EvaluationError, suggest_nearest
from maskwright.core.log import printable, warn
from maskwright.core.records.evaluation import EvaluationRecord
from maskwright.core.records.run import RunFolder, RunRecord
from maskwright.corpus.corpus import open_corpus
from maskwright.evaluation.babylm.submission import write_submission
from maskwright.evaluation.babylm.years import year_of
from maskwright.evaluation.catalogue import NamedTask, find_tasks
from maskwright.evaluation.compare_models import ScoredModel, compare
from maskwright.evaluation.evaluated_model import EvaluatedModel
from maskwright.evaluation.run_tasks import EvaluationOutcome
from maskwright.evaluation.run_tasks import evaluate as run_tasks
from maskwright.pipeline.evaluated_model import subject_of
from maskwright.pipeline.locate import model_folder_of
from maskwright.pipeline.recipes import find_plug_ins_in, settings_of
from maskwright.pipeline.verb_options import EvaluationOptions
from maskwright.reports.html import write_report
from maskwright.reports.model_card import write_model_card
from maskwright.reports.terminal.print_tables import print_comparison, print_records
from maskwright.training.run import corpus_folder_of


@dataclass(frozen=True)
class EvaluationTarget:
    """A model that is to be scored, as it was named, and where its records go.

    Attributes:
        subject: the model and the data.
        folder: of the records.
        run: the run folder; None for a model from elsewhere.
        seed: of what is drawn.
    """

    subject: EvaluatedModel
    folder: Path
    run: Path | None
    seed: int


def evaluate(model: str | Path, options: EvaluationOptions | None = None, **more: Any) -> list[EvaluationRecord]:
    """Score a model by tasks, show the scores, and return their records.

    Args:
        model: a run folder, any Hugging Face model folder, or a model's name on the hub.
        options: by what, on which data, how often; by default the held-out text of a run.
        more: fields of `EvaluationOptions` by name, instead of `options`, such as tasks="blimp,cola".

    Raises:
        MaskwrightError: something can't be used; everything that was scored before is kept.
    """
    how, model = options or evaluation_options(more), str(model)
    tasks = tasks_asked_for(how)
    ours = evaluation_target(model, how, tasks, how.out)
    # Before hours go into the first model: the other one is there, and the challenge took place.
    other = None if how.against is None else evaluation_target(how.against, how, tasks, None)
    if how.babylm is not None:
        year_of(how.babylm)
    outcome = score_one(ours, tasks, how)
    if other is not None:
        compare_with(ours, other, tasks, how)
    if how.babylm is not None:
        hand_in(ours, how.babylm, how.data)
    if ours.run is not None and how.out is None:
        write_model_card(ours.run)
        print(write_report(ours.run))
    if outcome.missing is not None:
        raise outcome.missing
    return list(outcome.records)


def evaluation_options(named: dict[str, Any]) -> EvaluationOptions:
    """Return options by name; paths may be strings, `set` a mapping, and `tasks` a list.

    Raises:
        EvaluationError: one is not known.
    """
    known = [field.name for field in fields(EvaluationOptions)]
    for name in named:
        if name not in known:
            raise EvaluationError(
                f"evaluate has no option {name!r}{suggest_nearest(name, known)}", "one of " + ", ".join(known)
            )
    values: dict[str, Any] = dict(named)
    values |= {name: Path(named[name]) for name in ("data", "corpus", "out") if named.get(name) is not None}
    if isinstance(values.get("set"), Mapping):
        values["set"] = tuple(f"{key}={value}" for key, value in values["set"].items())
    if "tasks" in values and not isinstance(values["tasks"], str):
        values["tasks"] = ",".join(values["tasks"])
    return EvaluationOptions(**values)


def tasks_asked_for(how: EvaluationOptions) -> list[NamedTask]:
    """Return the tasks of --tasks with the settings of --preset and --set."""
    names = [name.strip() for name in how.tasks.split(",") if name.strip()]
    if not names:
        raise EvaluationError("--tasks names no task", "for example --tasks held_out")
    if how.seeds < 1:
        raise EvaluationError(f"--seeds {how.seeds}", "1 or more")
    preset: dict[str, Any] = {} if how.preset is None else {"training.preset": how.preset}
    find_plug_ins_in(Path())
    return find_tasks(names, preset | settings_of(how.set))


def evaluation_target(
    model: str, how: EvaluationOptions, tasks: Sequence[NamedTask], out: Path | None
) -> EvaluationTarget:
    """Return what a model's name stands for, and `out` or the folder that its records go to."""
    run = RunFolder(Path(model))
    record = RunRecord.read(run.run_record) if run.run_record.exists() else None
    corpus = None
    if any(named.task.needs_corpus for named in tasks):
        corpus = how.corpus or (corpus_folder_of(record, run.path) if record else None)
    subject = subject_of(model_folder_of(model), open_corpus(corpus, verify=True) if corpus else None, how.data)
    if out is None:
        out = run.evaluation if Path(model).is_dir() else Path("evaluation") / model.replace("/", "--")
    own_seed = int(record.recipe["seed"]) if record else 1
    return EvaluationTarget(subject, out, Path(model) if record else None, own_seed if how.seed is None else how.seed)


def score_one(target: EvaluationTarget, tasks: Sequence[NamedTask], how: EvaluationOptions) -> EvaluationOutcome:
    """Score a model and print its scores."""
    outcome = run_tasks(target.subject, tasks, target.folder, target.seed, how.seeds, is_fresh=how.again)
    print_records(outcome.records)
    return outcome


def compare_with(
    ours: EvaluationTarget, other: EvaluationTarget, tasks: Sequence[NamedTask], how: EvaluationOptions
) -> None:
    """Score the other model too, and print the two side by side."""
    # One seed for both: what a task draws, such as a sample of pairs, must be the same items.
    score_one(replace(other, seed=ours.seed), tasks, how)
    names = [ours.subject.name, other.subject.name]
    if names[0] == names[1]:
        names = [str(ours.folder.parent), str(other.folder.parent)]
    sides = ScoredModel(names[0], ours.folder), ScoredModel(names[1], other.folder)
    print_comparison(compare(tasks, *sides, ours.seed))


def hand_in(target: EvaluationTarget, year: int, data: Path | None) -> None:
    """Write the submission to the BabyLM challenge of a year, and say what keeps it from being complete."""
    submission = write_submission(target.folder, data, year, target.folder / "babylm", Path(target.subject.name).name)
    print(f"submission: {submission.path} ({submission.num_predictions:,} predictions)")
    for problem in submission.problems:
        warn(printable(str(problem)))
