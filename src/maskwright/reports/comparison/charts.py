"""Charts of a comparison: quality over cost with the Pareto front, and learning curves."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from maskwright.core.records.comparison import Measure, RecipeComparisonRecord
from maskwright.reports.charts import BLUE, GREEN, INK, ORANGE, PERCENT, PURPLE, draw, shorten, tokens_axis
from maskwright.reports.comparison.tables import heading
from maskwright.reports.tables import format_value, is_in_points

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#8c6d00", "#3d4451", "#b03060", "#2f7f93")
"""Of the arms, in their order; after the last they begin again with another marker."""

TENTHS = PercentFormatter(xmax=1, decimals=1, symbol=" %")
"""Where ticks are less than a point apart."""

MARKERS = "osD^vPX*"

LABEL_HEIGHT = 0.075
"""Of a chart's height: labels nearer to one another are moved apart."""

HEIGHT_IN_POINTS = 150
"""Of the area inside the axes, about: three inches less title and labels."""

COSTS: Mapping[str, str] = {"seconds": "time of training", "flops": "FLOPs"}
"""What may be on the horizontal axis, and what it is called."""


def style_of(index: int) -> dict[str, Any]:
    """Return colour and marker of the arm with an index."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index // len(COLOURS) % len(MARKERS)]}


def pareto_charts(record: RecipeComparisonRecord, most: int) -> list[str]:
    """Return quality over time and over FLOPs, for the first measures."""
    charts = [pareto_chart(record, measure, cost) for measure in headline_measures(record)[:most] for cost in COSTS]
    return [chart for chart in charts if chart is not None]


def headline_measures(record: RecipeComparisonRecord) -> list[Measure]:
    """Return the measures for the charts: those without fine-tuning, and the average of those with it."""
    averages = [measure for measure in record.measures if measure.name.endswith("_average")]
    direct = [measure for measure in record.measures if not measure.is_fine_tuned and measure not in averages]
    return [*direct, *(averages or [measure for measure in record.measures if measure.is_fine_tuned])]


def pareto_front(costs: Sequence[float], scores: Sequence[float], is_lower_better: bool) -> list[int]:
    """Return the points that no point of the same or lower cost beats, cheapest first."""
    signed = np.array(scores) if is_lower_better else -np.array(scores)
    front: list[int] = []
    for index in np.lexsort((signed, np.array(costs))).tolist():
        if not front or signed[index] < signed[front[-1]]:
            front.append(index)
    return front


def pareto_chart(record: RecipeComparisonRecord, measure: Measure, cost: str) -> str | None:
    """Draw one measure over one cost: a point per arm, a dot per run, and the Pareto front; None without points."""
    points = []
    for index, arm in enumerate(record.arms):
        runs = [run for run in arm.runs if measure.name in run.scores and getattr(run, cost) is not None]
        if runs:
            table = np.array([(getattr(run, cost), run.scores[measure.name]) for run in runs], dtype=np.float64)
            points.append((index, arm.name, table))
    if not points:
        return None
    means = np.array([table.mean(axis=0) for _, _, table in points])
    unit = time_unit(float(means[:, 0].max())) if cost == "seconds" else ("", 1.0)

    def paint(axes: Axes) -> None:
        front = pareto_front(means[:, 0].tolist(), means[:, 1].tolist(), measure.is_lower_better)
        axes.plot(means[front, 0] / unit[1], means[front, 1], color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        for index, _, table in points:
            style = style_of(index)
            across, up = table[:, 0] / unit[1], table[:, 1]
            axes.plot(across, up, linestyle="none", markersize=3, alpha=0.55, zorder=2, **style)
            axes.plot(across.mean(), up.mean(), markersize=7, zorder=3, **style)
            if len(up) > 1:
                axes.errorbar(across.mean(), up.mean(), yerr=up.std(ddof=1), xerr=across.std(ddof=1),
                              color=style["color"], linewidth=1, alpha=0.6, zorder=2)  # fmt: skip
        finish(axes, measure)
        axes.set_xlabel(f"{COSTS[cost]} ({unit[0]})" if unit[0] else COSTS[cost])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if cost == "flops":
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        label_points(
            axes, [(index, name, x / unit[1], y) for (index, name, _), (x, y) in zip(points, means, strict=True)]
        )

    said = ", ".join(
        f"{name} {format_value(measure.metric, y)}" for (_, name, _), (_, y) in zip(points, means, strict=True)
    )
    return draw(f"pareto-{measure.name}-{cost}", f"{measure.title} over {COSTS[cost]}: {said}", paint, height=3.0)


def finish(axes: Axes, measure: Measure) -> None:
    """Name the vertical axis and give the labels on the right some room."""
    axes.set_title(shorten(heading(measure)))
    axes.margins(x=0.12, y=0.16)
    bottom, top = axes.get_ylim()
    if is_in_points(measure.metric):
        axes.yaxis.set_major_formatter(PERCENT if top - bottom > 0.06 else TENTHS)


def label_points(axes: Axes, points: Sequence[tuple[int, str, float, float]]) -> None:
    """Write names to the right of points, and move overlapping names apart.

    Args:
        axes: with limits that will not change any more, but on the right.
        points: the arm's index, its name, and the coordinates of the point.
    """
    left, right = axes.get_xlim()
    axes.set_xlim(left, right + 0.28 * (right - left))
    bottom, top = axes.get_ylim()
    ordered = sorted(points, key=lambda point: point[3])
    heights = [(point[3] - bottom) / (top - bottom) for point in ordered]
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + LABEL_HEIGHT)
    excess = max(0.0, heights[-1] - 0.97)
    for (index, name, x, y), height in zip(ordered, heights, strict=True):
        shift = (height - excess - (y - bottom) / (top - bottom)) * HEIGHT_IN_POINTS
        axes.annotate(shorten(name), (x, y), (8, shift + 8), textcoords="offset points", va="center", fontsize=8,
                      color=style_of(index)["color"])  # fmt: skip


def time_unit(seconds: float) -> tuple[str, float]:
    """Return a suitable unit for a time, and its seconds."""
    for name, size in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return name, size
    return "seconds", 1.0


def curve_charts(record: RecipeComparisonRecord) -> list[str]:
    """Return held-out cross-entropy over tokens and over time, one line per run; empty without probes."""
    found = {
        arm.name: [
            np.array([(point.tokens, point.seconds, point.cross_entropy) for point in run.curve]).T
            for run in arm.runs
            if len(run.curve) > 1
        ]
        for arm in record.arms
    }
    if not any(found.values()):
        return []
    longest = max(float(line[1].max()) for lines in found.values() for line in lines)
    unit, size = time_unit(longest)

    def make_painter(is_over_time: bool) -> Callable[[Axes], None]:
        def paint(axes: Axes) -> None:
            for index, (arm, lines) in enumerate(found.items()):
                for number, (tokens, seconds, values) in enumerate(lines):
                    across = seconds / size if is_over_time else tokens
                    axes.plot(across, values, color=style_of(index)["color"], linewidth=1.3, alpha=0.75,
                              label=shorten(arm) if number == 0 else None)  # fmt: skip
            axes.set_ylabel("nats per scored token")
            axes.set_title("Held-out cross-entropy")
            if is_over_time:
                axes.set_xlabel(f"{unit} of training")
            else:
                tokens_axis(axes)
            axes.legend(loc="upper right")

        return paint

    last = ", ".join(f"{arm} {np.mean([line[2][-1] for line in lines]):.3f}" for arm, lines in found.items() if lines)
    return [
        draw(
            f"curve-{name}",
            f"Held-out cross-entropy over {name}; at the end {last}",
            make_painter(name == "time"),
            height=3.0,
        )
        for name in ("tokens", "time")
    ]
