"""The cost at which an arm reaches the baseline's final quality, read off the learning curves.

This is the form in which savings are published, such as equal quality at 78 % of the compute (Liao et al. 2022).
"""

import statistics
from collections.abc import Sequence
from itertools import pairwise

from maskwright.core.records.comparison import ArmRecord, CurvePoint, RecipeComparisonRecord
from maskwright.reports.tables import NOTHING, Table

COSTS = {"tokens": "tokens", "flops": "FLOPs", "seconds": "time"}
"""Of a point of a learning curve, and what they are called."""


def cost_to_quality_table(record: RecipeComparisonRecord) -> Table | None:
    """Return one row per arm: the share of the baseline's cost at which it reached the baseline's final held-out loss.

    Returns:
        The table, or None if no arm and the baseline have learning curves with the same seed.
    """
    (baseline,) = (arm for arm in record.arms if arm.name == record.baseline)
    rows = [
        [arm.name, *(format_shares(shares(arm, baseline, cost)) for cost in COSTS)]
        for arm in record.arms
        if arm is not baseline and shares(arm, baseline, "tokens")
    ]
    if not rows:
        return None
    notes = [
        f"Share of the cost of {record.baseline} at which an arm's learning curve reached the last held-out loss of "
        f"{record.baseline} with the same seed; mean ± sample standard deviation.",
        "Between two probes a line is drawn. A run whose whole budget was so small would have lowered its learning "
        "rate by then, and be better.",
    ]
    title = f"As good as {record.baseline} in the end"
    return Table("reached", title, ["arm", *COSTS.values()], rows, None, notes)


def shares(arm: ArmRecord, baseline: ArmRecord, cost: str) -> list[float | None]:
    """Return, for each seed that both have, the share of the baseline's cost; None if it was not reached."""
    curves = {run.seed: run.curve for run in baseline.runs if run.curve}
    return [
        None
        if (spent := cost_to_reach(run.curve, curves[run.seed][-1].cross_entropy, cost)) is None
        else spent / getattr(curves[run.seed][-1], cost)
        for run in arm.runs
        if run.curve and run.seed in curves
    ]


def cost_to_reach(curve: Sequence[CurvePoint], cross_entropy: float, cost: str) -> float | None:
    """Return the cost at which a learning curve, drawn with straight lines, first is as low; None if it never is."""
    if curve[0].cross_entropy <= cross_entropy:
        return getattr(curve[0], cost)
    for before, after in pairwise(curve):
        if after.cross_entropy <= cross_entropy:
            way = (before.cross_entropy - cross_entropy) / (before.cross_entropy - after.cross_entropy)
            return getattr(before, cost) + way * (getattr(after, cost) - getattr(before, cost))
    return None


def format_shares(found: Sequence[float | None]) -> str:
    """Return the mean in per cent, and how many seeds got there if not all did."""
    percent = [100 * share for share in found if share is not None]
    if not percent:
        return "not reached" if found else NOTHING
    mean = f"{statistics.mean(percent):.0f}"
    spread = f" ± {statistics.stdev(percent):.0f}" if len(percent) > 1 else ""
    some = f" ({len(percent)} of {len(found)} seeds)" if len(percent) < len(found) else ""
    return f"{mean}{spread} %{some}"
