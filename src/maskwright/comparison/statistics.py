"""Several recipes, each trained with several seeds: means, deviations, and what differs from the baseline.

A run is one seed of one arm. Runs of equal seeds read the same text in the same order, so they are paired; items are
the same for all. How sure a difference is, `evaluation/significance.py` says; one correction is over all rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskwright.core.errors import EvaluationError
from maskwright.core.log import progress
from maskwright.core.records.comparison import ArmDifference, MeanScore, Measure
from maskwright.core.records.evaluation import EvaluationRecord
from maskwright.evaluation.catalogue import NamedTask
from maskwright.evaluation.compare_models import FEWEST_RESAMPLES, LEVEL, RESAMPLES_PER_ROW
from maskwright.evaluation.items import Items
from maskwright.evaluation.run_tasks import EvaluationFolder, unbeaten_baseline
from maskwright.evaluation.significance import estimate_difference, holm, p_over_seeds
from maskwright.evaluation.tasks.base import LOWER_IS_BETTER

AVERAGE = "fine_tuning_average"
"""Names the mean over the tasks that fine-tune."""

Runs = Mapping[int, Path]
"""The folders of an arm's evaluations, by the seed of the run."""


@dataclass(frozen=True)
class ArmsCompared:
    """What came of comparing.

    Attributes:
        scores: arm -> measure -> mean over its runs.
        differences: one row for every arm but the baseline and every measure, where both were scored.
        num_resamples: of the bootstrap.
        notes: what was left out, in words.
    """

    scores: dict[str, dict[str, MeanScore]]
    differences: list[ArmDifference]
    num_resamples: int
    notes: list[str]


def measures_of(tasks: Sequence[NamedTask]) -> list[Measure]:
    """Return what the arms are measured by: the tasks, and the average of those that fine-tune where there are two."""
    measures = [
        Measure(
            name=named.name,
            title=named.title,
            metric=named.metric,
            is_lower_better=named.metric in LOWER_IS_BETTER,
            is_fine_tuned=named.task.is_repeated,
        )
        for named in tasks
        if named.metric is not None
    ]
    if len(averaged(measures)) < 2:
        return measures
    title = f"fine-tuning average of {len(averaged(measures))}"
    average = Measure(name=AVERAGE, title=title, metric="accuracy", is_lower_better=False)
    return [*measures, average]


def averaged(measures: Sequence[Measure]) -> list[Measure]:
    """Return what goes into the fine-tuning average: errors, of which less is better, do not."""
    return [each for each in measures if each.is_fine_tuned and not each.is_lower_better]


def scores_of_run(folder: Path, measures: Sequence[Measure]) -> dict[str, float]:
    """Return the scores of one run by measure, from the records of its evaluation; the average where it is whole."""
    scores: dict[str, float] = {}
    for measure in measures:
        path = EvaluationFolder(folder).record(measure.name)
        if measure.name != AVERAGE and path.exists():
            scores[measure.name] = EvaluationRecord.read(path).scores[measure.metric]
    parts = [each.name for each in averaged(measures)]
    if any(each.name == AVERAGE for each in measures) and all(name in scores for name in parts):
        scores[AVERAGE] = float(np.mean([scores[name] for name in parts]))
    return scores


def compare_arms(
    tasks: Sequence[NamedTask], measures: Sequence[Measure], arms: Mapping[str, Runs], baseline: str, seed: int
) -> ArmsCompared:
    """Compare arms with the baseline.

    Args:
        tasks: that the runs were scored by.
        measures: of those tasks, see `measures_of`.
        arms: by name; runs that failed are left out.
        baseline: the name of one of them.
        seed: of the resampling.
    """
    by_run = {arm: {run: scores_of_run(folder, measures) for run, folder in runs.items()} for arm, runs in arms.items()}
    of_arm = {arm: {each.name: by_seed(by_run[arm], each.name) for each in measures} for arm in arms}
    scores = {
        arm: {name: mean_score(list(values.values())) for name, values in of_arm[arm].items() if values} for arm in arms
    }
    pairs = [
        (arm, measure)
        for measure in measures
        for arm in arms
        if arm != baseline and of_arm[arm][measure.name] and of_arm[baseline][measure.name]
    ]
    num_resamples = max(FEWEST_RESAMPLES, RESAMPLES_PER_ROW * len(pairs))
    by_name = {named.name: named for named in tasks}
    rows: list[ArmDifference] = []
    notes: list[str] = []
    with progress("comparing", total=len(pairs)) as advance:
        for arm, measure in pairs:
            ours, other, is_paired = common(of_arm[arm][measure.name], of_arm[baseline][measure.name])
            if measure.name == AVERAGE:
                rows.append(_average_row(arm, ours, other, is_paired))
            else:
                runs = {run: arms[arm][run] for run in ours}, {run: arms[baseline][run] for run in other}
                try:
                    rows.append(_row(arm, by_name[measure.name], measure, runs, seed, num_resamples))
                except EvaluationError as error:
                    notes.append(f"{measure.title}: {arm} and {baseline} can't be compared item by item: {error.got}.")
            advance(1)
    lower = {each.name: each.is_lower_better for each in measures}
    rows = corrected(rows, lower)
    for measure in (each for each in measures if each.is_fine_tuned and each.name in scores[baseline]):
        record = first_record(measure, arms[baseline].values())
        guesser = unbeaten_baseline(record, scores[baseline][measure.name].mean)
        if guesser:
            notes.append(
                f"{measure.title} is not informative: {baseline} is no better than the baseline {guesser[0]} "
                f"({guesser[1]:.3f})."
            )
            rows = [
                row.model_copy(update={"verdict": "not informative"}) if row.measure == measure.name else row
                for row in rows
            ]
    return ArmsCompared(scores, rows, num_resamples, notes)


def first_record(measure: Measure, folders: Iterable[Path]) -> EvaluationRecord:
    """Return the first record of a task that was scored for some of the runs; baselines are the same in all."""
    paths = (EvaluationFolder(folder).record(measure.name) for folder in folders)
    return EvaluationRecord.read(next(path for path in paths if path.exists()))


def by_seed(runs: Mapping[int, Mapping[str, float]], measure: str) -> dict[int, float]:
    """Return the score by one measure of each run that has it."""
    return {run: scores[measure] for run, scores in runs.items() if measure in scores}


def mean_score(values: Sequence[float]) -> MeanScore:
    """Return mean and sample standard deviation (ddof 1)."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return MeanScore(mean=float(np.mean(values)), deviation=deviation, num_runs=len(values))


def common(
    ours: Mapping[int, float], other: Mapping[int, float]
) -> tuple[Mapping[int, float], Mapping[int, float], bool]:
    """Return both arms' scores at the seeds that both have, and True; all of both and False if they share none."""
    shared = sorted(ours.keys() & other.keys())
    if not shared:
        return ours, other, False
    return {run: ours[run] for run in shared}, {run: other[run] for run in shared}, True


def _row(
    arm: str, named: NamedTask, measure: Measure, runs: tuple[Runs, Runs], seed: int, num_resamples: int
) -> ArmDifference:
    """Compare an arm with the baseline on one task; the corrected p-value and the verdict come later."""
    ours, other = ({run: items_of_run(folder, named) for run, folder in each.items()} for each in runs)
    found = estimate_difference(
        lambda items: named.task.scores(items)[measure.metric], ours, other, seed, num_resamples
    )
    return ArmDifference(
        arm=arm,
        measure=measure.name,
        difference=found.value,
        interval=found.interval,
        p_items=found.p_items,
        p_seeds=found.p_seeds,
        p_corrected=None,
        num_items=len(next(iter(ours.values()))),
        num_seeds=min(len(ours), len(other)),
        is_paired=ours.keys() == other.keys(),
        verdict="no test",
    )


def items_of_run(folder: Path, named: NamedTask) -> Items:
    """Return the items of one task of one run.

    Raises:
        EvaluationError: the task has no single items.
    """
    scored = EvaluationFolder(folder)
    record = EvaluationRecord.read(scored.record(named.name))
    items = scored.read_items(named.name, record.seeds[0].seed)
    if items is None:
        raise EvaluationError(f"{named.title} has no single items")
    return items


def _average_row(arm: str, ours: Mapping[int, float], other: Mapping[int, float], is_paired: bool) -> ArmDifference:
    """Compare the averages over tasks of an arm and the baseline: over the seeds alone."""
    ours_S, other_S = np.array(list(ours.values())), np.array(list(other.values()))
    return ArmDifference(
        arm=arm,
        measure=AVERAGE,
        difference=float(ours_S.mean() - other_S.mean()),
        interval=None,
        p_items=None,
        p_seeds=p_over_seeds(ours_S, other_S, is_paired),
        p_corrected=None,
        num_items=None,
        num_seeds=min(len(ours_S), len(other_S)),
        is_paired=is_paired,
        verdict="no test",
    )


def corrected(rows: Sequence[ArmDifference], is_lower_better: Mapping[str, bool]) -> list[ArmDifference]:
    """Return rows with p-values corrected for the number of tests, and verdicts."""
    p_values = [max((p for p in (row.p_items, row.p_seeds) if p is not None), default=None) for row in rows]
    tested = [index for index, p in enumerate(p_values) if p is not None]
    after = dict(zip(tested, holm([p for p in p_values if p is not None]), strict=True))
    finished = []
    for index, row in enumerate(rows):
        if index in after:
            verdict = "no evidence of a difference"
            if after[index] <= LEVEL and row.difference:
                is_better = (row.difference < 0) == is_lower_better[row.measure]
                verdict = "better" if is_better else "worse"
            row = row.model_copy(update={"p_corrected": after[index], "verdict": verdict})
        finished.append(row)
    return finished
