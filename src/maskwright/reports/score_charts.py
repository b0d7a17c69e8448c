"""Charts of scores: the parts of a data set, such as BLiMP's phenomena, with intervals and the line of chance."""

from matplotlib.axes import Axes

from maskwright.core.records.evaluation import EvaluationRecord
from maskwright.reports.charts import BLUE, INK, ORANGE, PERCENT, draw, shorten
from maskwright.reports.formatting import label_of
from maskwright.reports.tables import title_of

FEWEST_PARTS = 2

MOST_PARTS = 40
"""More don't fit on a page; the table has them all."""


def parts_chart(record: EvaluationRecord) -> str | None:
    """Return the accuracy of every part with its 95 % interval, best on top; None if there are no intervals."""
    metric = record.main_metric
    parts = {
        name: scores
        for name, scores in record.groups.items()
        if metric in scores and {"low", "high"} <= scores.keys() and "/" not in name
    }
    if metric is None or not FEWEST_PARTS <= len(parts) <= MOST_PARTS:
        return None
    chance = record.baselines.get("chance", {}).get(metric)
    ordered = sorted(parts, key=lambda name: parts[name][metric])

    def paint(axes: Axes) -> None:
        for row, name in enumerate(ordered):
            scores = parts[name]
            is_above = chance is None or scores["low"] > chance
            colour = BLUE if is_above else ORANGE
            axes.plot([scores["low"], scores["high"]], [row, row], color=colour, linewidth=2, alpha=0.45)
            axes.plot(scores[metric], row, "o", color=colour, markersize=5)
            axes.annotate(f"{100 * scores[metric]:.1f}", (scores["high"], row), (6, 0),
                          textcoords="offset points", va="center", fontsize=8)  # fmt: skip
        if chance is not None:
            axes.axvline(chance, color=INK, linewidth=1, linestyle=(0, (3, 3)))
            axes.annotate("chance", (chance, 1), (3, 2), xycoords=("data", "axes fraction"),
                          textcoords="offset points", fontsize=8)  # fmt: skip
        axes.set_yticks(range(len(ordered)), [shorten(label_of(name)) for name in ordered])
        axes.set_ylim(-0.6, len(ordered) - 0.4)
        axes.set_xlim(right=min(1.06, axes.get_xlim()[1] + 0.05))
        axes.xaxis.set_major_formatter(PERCENT)
        axes.grid(visible=False, axis="y")

    best, worst = ordered[-1], ordered[0]
    description = (
        f"{title_of(record)} by part: best {label_of(best)} {parts[best][metric]:.3f}, "
        f"worst {label_of(worst)} {parts[worst][metric]:.3f}" + (f", chance {chance:g}" if chance is not None else "")
    )
    return draw(f"parts-{record.task}", description, paint, width=9.4, height=0.9 + 0.26 * len(ordered))
