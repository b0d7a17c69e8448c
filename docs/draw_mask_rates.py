"""Draws the mask-rate curves of docs/experiments.md: ours, from their record, beside a published one.

    .venv/bin/python docs/draw_mask_rates.py

One picture is held-out cross-entropy by rate, the other what a rate changes in fine-tuning against 15 %, in points.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from maskwright.core.files import write_text_atomically
from maskwright.core.records.comparison import RecipeComparisonRecord
from maskwright.reports.charts import INK, draw
from maskwright.reports.comparison.charts import COLOURS, style_of

DOCS = Path(__file__).parent
RECORD = DOCS.parent / "benchmarks" / "records" / "2026-11-22_compare_mask_rates.json"

RATES = (15, 30, 40, 50, 60)
PUBLISHED = {
    "MNLI": (84.2, 84.2, 84.5, 84.1, 83.2),
    "QNLI": (90.9, 91.6, 91.6, 91.1, 90.7),
    "QQP": (87.8, 88.0, 88.1, 88.1, 87.8),
    "SST-2": (93.3, 93.0, 92.8, 92.7, 92.6),
}
"""Of a large encoder, in per cent by rate: Wettig et al. 2022, arXiv:2202.08005, the scores of their repository."""


def scores(record: RecipeComparisonRecord, measure: str) -> list[float]:
    """Return the mean over the runs of each rate."""
    return [sum(run.scores[measure] for run in arm.runs) / len(arm.runs) for arm in record.arms]


def picture(name: str, title: str, said: str, paint: Callable[[Axes], None]) -> None:
    """Write one chart whose horizontal axis is the rate."""

    def paint_all(axes: Axes) -> None:
        paint(axes)
        axes.set_title(title)
        axes.set_xlabel("share of the tokens that is masked")
        axes.set_xticks(RATES)
        axes.xaxis.set_major_formatter(PercentFormatter(xmax=100, decimals=0, symbol=" %"))

    write_text_atomically(DOCS / f"{name}.svg", draw(name, f"{title}: {said}", paint_all, height=3.2) + "\n")


def main() -> None:
    """Draw both."""
    record = RecipeComparisonRecord.read(RECORD)
    losses, sst2 = scores(record, "held_out"), [100 * score for score in scores(record, "sst2")]
    changes = [row for row in record.differences if row.measure == "sst2" and row.interval]
    intervals = np.array([(0.0, 0.0), *(row.interval for row in changes)]).T * 100

    def paint_losses(axes: Axes) -> None:
        axes.plot(RATES, losses, markersize=5, **style_of(0))
        for rate, arm in zip(RATES, record.arms, strict=True):
            each = [run.scores["held_out"] for run in arm.runs]
            axes.plot([rate] * len(each), each, linestyle="none", markersize=3, alpha=0.55, **style_of(0))
        axes.set_ylabel("nats a token, 15 % hidden")

    def paint_changes(axes: Axes) -> None:
        axes.axhline(0, color=INK, linewidth=0.8)
        for place, (task, published) in enumerate(PUBLISHED.items(), start=1):
            change = [score - published[0] for score in published]
            axes.plot(RATES, change, label=f"{task}, published", color=COLOURS[place])
        change = np.array(sst2) - sst2[0]
        reach = np.abs(intervals - change)
        axes.errorbar(RATES, change, yerr=reach, label="SST-2 here, 95 %", markersize=5, capsize=3, **style_of(0))
        axes.set_ylabel("points against 15 %")
        axes.get_figure(root=True).legend(loc="outside lower center", ncols=3)

    by_rate = ", ".join(f"{rate} % {loss:.3f}" for rate, loss in zip(RATES, losses, strict=True))
    picture("mask_rates_held_out", "Held-out cross-entropy after five minutes", by_rate, paint_losses)
    by_rate = ", ".join(f"{rate} % {score:.1f}" for rate, score in zip(RATES, sst2, strict=True))
    picture("mask_rates_fine_tuned", "Fine-tuned, against 15 %", f"SST-2 here {by_rate}", paint_changes)


if __name__ == "__main__":
    main()
