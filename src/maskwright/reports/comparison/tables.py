"""Tables of a comparison of recipes: pure rows of text, for the page and the terminal alike."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from maskwright.core.records.comparison import (
    ArmDifference,
    ArmRecord,
    ArmRun,
    MeanScore,
    Measure,
    RecipeComparisonRecord,
)
from maskwright.reports.formatting import format_amount, format_compact, format_duration, format_with_unit, label_of
from maskwright.reports.tables import (
    INTERVAL,
    NOTHING,
    Table,
    format_interval,
    format_p,
    format_value,
    is_in_points,
)

MARKS = {("better", True): "▲", ("worse", True): "▼", ("better", False): "△", ("worse", False): "▽"}
"""Mark a score that differs from the baseline's, by evidence over seeds too, or only over items."""


def plan_table(title: str, rows: Sequence[tuple[str, str, float | None]]) -> Table:
    """Return what will be done.

    Args:
        title: of the comparison.
        rows: label of a run, what will be done with it, seconds of training left (None: it does not fit into memory).
    """
    cells = [[label, what, "does not fit into memory" if s is None else format_duration(s)] for label, what, s in rows]
    left = sum(seconds or 0.0 for _, _, seconds in rows)
    total = ["all", f"{len(rows)} runs", format_duration(left)]
    note = "Time of training, predicted or as measured in a finished run of the arm; preparing and scoring come on top."
    return Table("plan", title, ["run", "what will be done", "time left"], cells, total, [note], frozenset({1}))


COSTS = ("parameters", "tokens", "FLOPs", "time", "energy")


def scores_table(record: RecipeComparisonRecord) -> Table:
    """Return one row per arm: its scores by every measure."""
    marks = {
        (row.arm, row.measure): MARKS.get((row.verdict, row.p_seeds is not None), "") for row in record.differences
    }
    has_uninformative = any(row.verdict == "not informative" for row in record.differences)
    rows = []
    for arm in record.arms:
        scores = [
            f"{format_arm_score(each, arm.scores.get(each.name))} {marks.get((arm.name, each.name), '')}".rstrip()
            for each in record.measures
        ]
        rows.append([mark_baseline(arm, record.baseline), format_num_runs(arm), *scores])
    notes = [
        "Mean ± sample standard deviation (ddof 1) over the runs.",
        *explain_marks(set(marks.values()), record.baseline, has_uninformative),
        *record.notes,
    ]
    columns = ["arm", "runs", *map(heading, record.measures)]
    return Table("scores", record.title, columns, rows, None, notes)


def costs_table(record: RecipeComparisonRecord) -> Table:
    """Return one row per arm: what its runs cost, on average."""
    rows = [[arm.name, *format_costs(arm)] for arm in record.arms]
    return Table("costs", "What a run costs", ["arm", *COSTS], rows)


def arms_table(record: RecipeComparisonRecord) -> Table:
    """Return scores and costs in one table, for pages wide enough."""
    scores = scores_table(record)
    rows = [[*row, *format_costs(arm)] for row, arm in zip(scores.rows, record.arms, strict=True)]
    return replace(scores, name="arms", columns=[*scores.columns, *COSTS], rows=rows)


def mark_baseline(arm: ArmRecord, baseline: str) -> str:
    """Return an arm's name, the baseline's marked."""
    return f"{arm.name} (baseline)" if arm.name == baseline else arm.name


def heading(measure: Measure) -> str:
    """Return the heading of a measure's column, with the direction that is better."""
    what = measure.title if measure.title != measure.name else label_of(measure.name)
    unit = "" if is_in_points(measure.metric) else f", {label_of(measure.metric)}"
    return f"{what}{unit} {'↓' if measure.is_lower_better else '↑'}"


def format_arm_score(measure: Measure, score: MeanScore | None) -> str:
    """Return an arm's score by one measure."""
    return NOTHING if score is None else format_value(measure.metric, score.mean, score.deviation)


def explain_marks(used: set[str], baseline: str, has_uninformative: bool) -> list[str]:
    """Return what the marks mean that stand in a table; nothing if nothing was compared."""
    if not used:
        return []
    meanings = [
        f"{mark} {verdict} than {baseline}" + ("" if is_over_seeds else ", by the evidence over items alone")
        for (verdict, is_over_seeds), mark in MARKS.items()
        if mark in used
    ]
    unmarked = "unmarked: no evidence of a difference" + (", or not informative" if has_uninformative else "")
    return ["; ".join([*meanings, unmarked]) + "."]


def format_num_runs(arm: ArmRecord) -> str:
    """Return how many runs there are, and how many of them failed."""
    failed = sum(run.problem is not None for run in arm.runs)
    return str(len(arm.runs)) if not failed else f"{len(arm.runs) - failed} of {len(arm.runs)}; {failed} failed"


def format_costs(arm: ArmRecord) -> list[str]:
    """Return parameters, tokens, FLOPs, time and energy of an arm, means over its runs."""
    return [
        mean_of(arm.runs, "num_parameters", format_compact),
        mean_of(arm.runs, "num_tokens", format_compact),
        mean_of(arm.runs, "flops", lambda value: format_with_unit(value, "FLOP")),
        mean_of(arm.runs, "seconds", format_duration),
        mean_of(
            arm.runs,
            "kwh",
            lambda value: f"{format_amount(1000 * value)} Wh" if value < 1 else f"{format_amount(value)} kWh",
        ),
    ]


def mean_of(runs: Sequence[ArmRun], attribute: str, show: Any) -> str:
    """Return the mean of a cost over the runs that have it, as text."""
    values = [value for run in runs if (value := getattr(run, attribute)) is not None]
    return show(sum(values) / len(values)) if values else NOTHING


def differences_table(record: RecipeComparisonRecord) -> Table:
    """Return one row for each arm and measure: how it differs from the baseline, and how sure that is."""
    by_name = {measure.name: measure for measure in record.measures}
    rows = [difference_row(row, by_name[row.measure]) for row in record.differences]
    columns = ["arm", "measure", "difference", INTERVAL, "p items", "p seeds", "p", "seeds", "verdict"]
    title = f"Against {record.baseline}"
    notes = ["Differences are arm minus baseline, over the seeds that both have; p is corrected for all rows."]
    return Table("differences", title, columns, rows, None, notes, frozenset({1, 8}))


def difference_row(row: ArmDifference, measure: Measure) -> list[str]:
    """Return the cells of one difference."""
    seeds = f"{row.num_seeds}{'' if row.is_paired else ', not paired'}"
    ps = [NOTHING if p is None else format_p(p) for p in (row.p_items, row.p_seeds, row.p_corrected)]
    difference = format_value(measure.metric, row.difference)
    interval = format_interval(measure.metric, row.interval)
    return [row.arm, heading(measure)[:-2], difference, interval, *ps, seeds, row.verdict]


def settings_table(record: RecipeComparisonRecord) -> Table:
    """Return the keys that are not the same in all arms, one row per key."""
    keys = list(dict.fromkeys(key for arm in record.arms for key in arm.differing))
    rows = [[key, *(format_setting(arm.differing.get(key, NOTHING)) for arm in record.arms)] for key in keys]
    columns = ["key", *(arm.name for arm in record.arms)]
    notes = [] if keys else ["The recipes are the same in every key."]
    return Table("settings", "What differs", columns, rows, None, notes, frozenset(range(1, len(columns))))


def format_setting(value: Any) -> str:
    """Return a setting as a recipe has it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def runs_table(record: RecipeComparisonRecord) -> Table:
    """Return one row per run."""
    rows = []
    for arm in record.arms:
        for run in arm.runs:
            scores = [
                format_value(each.metric, run.scores[each.name]) if each.name in run.scores else NOTHING
                for each in record.measures
            ]
            alone = arm.model_copy(update={"runs": [run]})
            steps = NOTHING if run.num_steps is None else f"{run.num_steps:,}"
            what = run.problem or "finished"
            rows.append([arm.name, str(run.seed), *scores, steps, *format_costs(alone)[1:], run.folder, what])
    columns = [
        "arm",
        "seed",
        *map(heading, record.measures),
        "steps",
        "tokens",
        "FLOPs",
        "time",
        "energy",
        "folder",
        "",
    ]
    last = len(columns) - 1
    return Table("runs", "Every run", columns, rows, None, (), frozenset({last - 1, last}))
