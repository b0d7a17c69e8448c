"""Scores as tables: pure rows of text, for the report, the model card and the terminal alike.

A table says what it leaves out: a row without a score stays, an average names how many rows it is over.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from maskwright.core.records.evaluation import EvaluationRecord, ModelComparisonRecord, TableRecord
from maskwright.reports.formatting import label_of

NOTHING = "–"
"""Shown for a missing value."""

INTERVAL = "95 % interval"
"""Heading of a column."""

WHOLE = "all"
"""Names the last row of a table of parts."""

IN_POINTS = ("accuracy", "f1", "correlation", "pearson", "spearman", "exact_match", "rate", "fraction")
"""Ends of the names of metrics from 0 or -1 to 1, which tables show times 100, as papers do."""

HOW_TO_READ = (
    "Accuracies, F1 and correlations are times 100 (points): mean ± sample standard deviation (ddof 1) over the seeds; "
    "without ± there is one seed. The interval is 95 %, bootstrap over the items and, from three seeds on, over the "
    "seeds."
)

HOW_TO_READ_PARTS = "In percent; the interval is 95 %, bootstrap over the pairs. The last row is the mean of the parts."


@dataclass(frozen=True)
class Table:
    """A table as it is shown.

    Attributes:
        name: unique among the tables of a report.
        title: heading.
        columns: headings; the first names the row.
        rows: cells, each of as many texts as there are columns; foreign text is not escaped.
        total: a last row that sums the others up.
        notes: sentences that stand under the table.
        worded: indices of the columns that hold words and not numbers, besides the first.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: Sequence[str] | None = None
    notes: Sequence[str] = ()
    worded: frozenset[int] = field(default=frozenset())

    @property
    def all_rows(self) -> list[Sequence[str]]:
        """The rows and, at the end, the total."""
        return [*self.rows, *([self.total] if self.total else [])]


def is_in_points(metric: str) -> bool:
    """Return whether a metric is shown times 100."""
    return metric.endswith(IN_POINTS) and not metric.startswith(("num_", "sum_"))


def format_value(metric: str, value: float, deviation: float | None = None) -> str:
    """Return a score as tables show it: ("accuracy", 0.6831, 0.006) -> "68.3 ± 0.6"."""
    if not math.isfinite(value):
        return "not defined"
    if metric.startswith("num_"):
        return f"{value:,.0f}"
    factor, digits = (100, 1) if is_in_points(metric) else (1, 3)
    text = f"{factor * value:.{digits}f}".replace("-", "−")
    return text if deviation is None else f"{text} ± {factor * deviation:.{digits}f}"


def format_interval(metric: str, interval: tuple[float, float] | None) -> str:
    """Return an interval: ("accuracy", (0.1, 0.2)) -> "10.0 to 20.0"."""
    return (
        NOTHING if interval is None else f"{format_value(metric, interval[0])} to {format_value(metric, interval[1])}"
    )


def score_tables(records: Sequence[EvaluationRecord]) -> list[Table]:
    """Return the tables of an evaluation: one a suite, one of the tasks in no suite, and those of parts of data sets.

    Args:
        records: of one model; a record counts in every suite that has its task. Records without a main metric, such as
            held_out, are in no table; sets of minimal pairs in no suite are in their own only.
    """
    by_task = {record.task: record for record in records if record.main_metric is not None}
    suites = {record.table.name: record.table for record in records if record.table is not None}
    tables = [suite_table(suite, by_task) for suite in suites.values()]
    in_suites = {task for suite in suites.values() for task in suite.tasks}
    alone = {
        task: title_of(record)
        for task, record in by_task.items()
        if task not in in_suites and not has_part_intervals(record)
    }
    if alone:
        title = "Other tasks" if suites else "Tasks"
        tables.append(suite_table(TableRecord(name="other", title=title, tasks=alone), by_task, has_average=False))
    parted = [record for record in by_task.values() if record.groups]
    return [*tables, *(part_table(record, is_alone=record.task not in in_suites) for record in parted)]


def title_of(record: EvaluationRecord) -> str:
    """Return what people call the task; its name in words if it has no title."""
    return record.title if record.title not in ("", record.task) else label_of(record.task)


def has_part_intervals(record: EvaluationRecord) -> bool:
    """Return whether the parts of the data have intervals, as those of minimal pairs have."""
    return any("low" in scores for scores in record.groups.values())


def suite_table(suite: TableRecord, by_task: dict[str, EvaluationRecord], has_average: bool = True) -> Table:
    """Return one row per task, in the suite's order; tasks that were not scored keep their row."""
    rows, values, found = [], [], []
    for task, title in suite.tasks.items():
        record = by_task.get(task)
        if record is None or record.main_metric is None:
            rows.append([title, *[NOTHING] * 5])
            continue
        found.append(record)
        values.append(record.scores[record.main_metric])
        rows.append([title, *_main_score(record), str(len(record.seeds) or 1), _best_baseline(record)])
    total = None
    if has_average and found and all(is_in_points(str(record.main_metric)) for record in found):
        label = "average" if len(found) == len(rows) else f"average of {len(found)} of {len(rows)}"
        total = [label, "", format_value("accuracy", sum(values) / len(values)), "", "", ""]
    missing = [title for task, title in suite.tasks.items() if task not in by_task]
    notes = [HOW_TO_READ, *([f"Not scored: {', '.join(missing)}."] if missing else []), *_notes(found)]
    columns = ["task", "metric", "score", INTERVAL, "seeds", "baseline"]
    return Table(suite.name, suite.title, columns, rows, total, notes, frozenset({1}))


def _main_score(record: EvaluationRecord) -> list[str]:
    """Return the metric's name, the score and its interval."""
    metric = str(record.main_metric)
    score = format_value(metric, record.scores[metric], record.deviations.get(metric))
    return [label_of(metric), score, format_interval(metric, record.intervals.get(metric))]


def _best_baseline(record: EvaluationRecord) -> str:
    """Return the strongest baseline by the main metric, with its name."""
    metric = str(record.main_metric)
    # What is not in points is an error: the lower the better.
    found = record.best_baseline(is_lower_better=not is_in_points(metric))
    return f"{format_value(metric, found[1])} ({label_of(found[0])})" if found else NOTHING


def _notes(records: Iterable[EvaluationRecord]) -> list[str]:
    """Return the records' notes, each once, with the tasks that it is of."""
    tasks_by_note: dict[str, list[str]] = {}
    for record in records:
        for note in record.notes:
            tasks_by_note.setdefault(note, []).append(title_of(record))
    return [f"{', '.join(tasks)}: {note}" for note, tasks in tasks_by_note.items()]


def part_table(record: EvaluationRecord, is_alone: bool) -> Table:
    """Return one row per part of a task's data, such as a phenomenon of BLiMP; parts of parts ("a/b") are left out.

    Args:
        record: with groups.
        is_alone: whether it is in no other table, and its notes belong here.
    """
    metric = str(record.main_metric)
    groups = {name: scores for name, scores in record.groups.items() if metric in scores and "/" not in name}
    has_intervals = has_part_intervals(record)
    counts = [name for name in next(iter(groups.values()), {}) if name.startswith("num_")]
    columns = ["part", label_of(metric), *([INTERVAL] if has_intervals else []), *map(label_of, counts)]
    rows = []
    for name, scores in groups.items():
        interval = (scores["low"], scores["high"]) if "low" in scores else None
        rows.append(
            [
                label_of(name),
                format_value(metric, scores[metric]),
                *([format_interval(metric, interval)] if has_intervals else []),
                *(format_value(count, scores[count]) if count in scores else NOTHING for count in counts),
            ]
        )
    score = format_value(metric, record.scores[metric], record.deviations.get(metric))
    whole_interval = [format_interval(metric, record.intervals.get(metric))] if has_intervals else []
    whole = [format_value(count, record.scores[count]) if count in record.scores else NOTHING for count in counts]
    total = [WHOLE, score, *whole_interval, *whole]
    notes = ([HOW_TO_READ_PARTS] if has_intervals else []) + (record.notes if is_alone else [])
    return Table(f"{record.task}-parts", title_of(record), columns, rows, total, notes)


def detail_table(records: Sequence[EvaluationRecord]) -> Table:
    """Return every metric of every seed of the tasks with a main metric."""
    rows = []
    for record in records:
        if record.main_metric is None:
            continue
        for metric, value in record.scores.items():
            if metric.startswith(("num_", "sum_")):
                continue
            per_seed = ", ".join(f"{format_value(metric, each.scores[metric])} ({each.seed})" for each in record.seeds)
            mean = format_value(metric, value, record.deviations.get(metric))
            rows.append([title_of(record), label_of(metric), mean, per_seed or NOTHING])
    columns = ["task", "metric", "mean ± deviation", "each seed (its number)"]
    return Table("details", "Every metric of every seed", columns, rows, worded=frozenset({1, 3}))


def comparison_table(record: ModelComparisonRecord) -> Table:
    """Return two models side by side, one row per task."""
    model, other = record.model, record.other
    rows = [
        [
            row.title,
            label_of(row.metric),
            format_value(row.metric, row.model_mean, row.model_deviation),
            format_value(row.metric, row.other_mean, row.other_deviation),
            format_value(row.metric, row.difference),
            format_interval(row.metric, row.interval),
            format_p(row.p_corrected),
            str(row.num_seeds),
            row.verdict,
        ]
        for row in record.rows
    ]
    columns = ["task", "metric", model, other, "difference", INTERVAL, "p", "seeds", "verdict"]
    title = f"{model} against {other}"
    return Table(f"against-{other}", title, columns, rows, None, record.notes, frozenset({1, 8}))


def format_p(p: float) -> str:
    """Return a p-value with two digits at most: 0.0004 -> "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}"
