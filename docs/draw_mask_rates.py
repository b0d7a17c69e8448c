"""Draws the mask-rate curves of docs/experiments.md: ours, from the record, and the published one.

    .venv/bin/python docs/draw_mask_rates.py

Both show what a rate changes against 15 %, in points, so that they can be read beside one another.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from maskwright.core.comparison_records import RecipeComparison
from maskwright.core.files import write_text_atomically
from maskwright.reports.charts import draw
from maskwright.reports.comparison_charts import style_of

DOCS = Path(__file__).parent
RECORD = DOCS.parent / "benchmarks" / "records" / "2026-11-21_compare_mask_rates.json"

RATES = (15, 30, 40, 50, 60)
PUBLISHED = {
    "MNLI": (84.2, 84.2, 84.5, 84.1, 83.2),
    "QNLI": (90.9, 91.6, 91.6, 91.1, 90.7),
    "QQP": (87.8, 88.0, 88.1, 88.1, 87.8),
    "SST-2": (93.3, 93.0, 92.8, 92.7, 92.6),
}
"""Of a large encoder, in per cent by rate: Wettig et al. 2022, arXiv:2202.08005, the scores of their repository."""


def measured(record: RecipeComparison) -> dict[str, np.ndarray]:
    """Return a row of scores in per cent for every run of a rate, by measure: float [runs, rates]."""
    accuracies = [measure for measure in record.measures if measure.name in ("blimp", "sst2")]
    return {
        measure.title: 100 * np.array([[run.scores[measure.name] for run in arm.runs] for arm in record.arms]).T
        for measure in accuracies
    }


def curves(title: str, scores: Mapping[str, np.ndarray]) -> str:
    """Return a chart of scores less those at the first rate, a line a measure and a dot a run."""

    def paint(axes: Axes) -> None:
        for place, (name, rows) in enumerate(scores.items()):
            style = style_of(place)
            change = rows - rows[:, :1].mean()
            axes.plot(RATES, change.mean(axis=0), label=name, markersize=5, **style)
            if len(rows) > 1:
                axes.plot(RATES, change.T, linestyle="none", markersize=2.5, alpha=0.5, **style)
        axes.axhline(0, color="#3d4451", linewidth=0.8)
        axes.set_title(title)
        axes.set_xlabel("share of the tokens that is masked")
        axes.set_ylabel("points against 15 %")
        axes.set_xticks(RATES)
        axes.xaxis.set_major_formatter(PercentFormatter(xmax=100, decimals=0, symbol=" %"))
        axes.legend()

    said = "; ".join(
        f"{name} {', '.join(f'{score:.1f}' for score in rows.mean(axis=0))}" for name, rows in scores.items()
    )
    return draw(title, f"{title}, by rate {', '.join(map(str, RATES))}: {said}", paint)


if __name__ == "__main__":
    ours = measured(RecipeComparison.read(RECORD))
    published = {name: np.array([row]) for name, row in PUBLISHED.items()}
    for name, title, scores in (("ours", "Five minutes on a CPU", ours), ("published", "A large encoder", published)):
        write_text_atomically(DOCS / f"mask_rates_{name}.svg", curves(title, scores) + "\n")
