"""What a search for rate and batch found: a table of the trials, the valley as a picture, the best as YAML."""

import math
import statistics

import yaml
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from maskwright.core.records.tuning import TrialRecord, TuningRecord
from maskwright.reports.charts import BLUE, GREEN, INK, ORANGE, PURPLE, draw
from maskwright.reports.tables import Table

COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
"""Of the batches; a grid has no more."""

MOST_OVER_MEDIAN = 2.0
"""The picture reaches so many times as far above the lowest loss as the median: what nearly diverged is cut off."""


def tuning_table(record: TuningRecord) -> Table:
    """Return the trials: a row for each rate and batch, the best first, and a column for each rung."""
    numbers = sorted({trial.rung for trial in record.trials})
    by_candidate: dict[tuple[float, int], dict[int, TrialRecord]] = {}
    for number in reversed(numbers):
        for trial in record.rung(number):
            by_candidate.setdefault(trial.candidate, {})[number] = trial
    rows = [
        [f"{rate:.3g}", f"{batch:,}", *(_loss_in_words(trials.get(number)) for number in numbers)]
        for (rate, batch), trials in by_candidate.items()
    ]
    columns = ["learning rate", "batch", *(f"{record.rung_tokens[number]:,} tokens" for number in numbers)]
    return Table("tuning", f"Held-out loss of {record.name} after short runs", columns, rows, notes=record.notes)


def _loss_in_words(trial: TrialRecord | None) -> str:
    if trial is None:
        return ""
    return "diverged" if trial.held_out_loss is None else f"{trial.held_out_loss:.3f}"


def recipe_fragment(record: TuningRecord) -> str:
    """Return the best as it stands in a recipe; what belongs to single phases, in comments."""
    sections: dict[str, dict[str, object]] = {}
    for key, value in record.settings.items():
        if not key.startswith("phases."):
            section, name = key.split(".")
            sections.setdefault(section, {})[name] = value
    of_phases = [f"# {key}: {value}\n" for key, value in record.settings.items() if key.startswith("phases.")]
    return yaml.safe_dump(sections, sort_keys=False) + "".join(of_phases)


def valley_chart(record: TuningRecord) -> str:
    """Return the held-out loss over the learning rate, a line for each batch and rung, the best marked."""
    best = record.best
    finite = [trial.held_out_loss for trial in record.trials if trial.held_out_loss is not None]
    lowest, best_loss = min(finite), best.held_out_loss or math.nan
    top = lowest + MOST_OVER_MEDIAN * max(statistics.median(finite) - lowest, 1e-3)
    last_rung = max(trial.rung for trial in record.trials)
    batches = sorted({trial.batch_tokens for trial in record.trials})

    def paint(axes: Axes) -> None:
        for batch, colour in zip(batches, COLOURS, strict=False):
            for rung in range(last_rung + 1):
                trials = [trial for trial in record.rung(rung) if trial.batch_tokens == batch]
                points = sorted((t.learning_rate, t.held_out_loss) for t in trials if t.held_out_loss is not None)
                label = f"batch {batch:,}" if not rung else None
                axes.plot(*zip(*points, strict=True) if points else ((), ()), color=colour, label=label,
                          linewidth=0.8 + 0.5 * rung, marker="o", markersize=2 + rung)  # fmt: skip
                gone = [trial.learning_rate for trial in trials if trial.held_out_loss is None]
                axes.plot(gone, [0.98] * len(gone), color=colour, marker="x", linestyle="none",
                          transform=axes.get_xaxis_transform())  # fmt: skip
        axes.plot([best.learning_rate], [best_loss], color=INK, marker="o", markersize=11, fillstyle="none")
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted({trial.learning_rate for trial in record.trials}))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:.2g}"))
        axes.set_ylim(lowest - 0.08 * (top - lowest), top)
        axes.set_xlabel("learning rate; × diverged, the ring is the best")
        axes.set_ylabel("held-out loss")
        first, last = record.rung_tokens[0], record.rung_tokens[last_rung]
        axes.set_title(f"Trials of {first:,} (thin) to {last:,} tokens (thick)")
        axes.legend(loc="best")

    description = (
        f"Held-out loss over the learning rate; the best is {best.learning_rate:.3g} with batches of "
        f"{best.batch_tokens:,} tokens, {best_loss:.3f}"
    )
    return draw("valley", description, paint, width=6.4, height=4.0)
