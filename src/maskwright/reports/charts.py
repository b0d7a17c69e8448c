"""Static charts as SVG: text stays text, equal data give equal bytes, no script."""

import html
import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter, PercentFormatter

from maskwright.reports.formatting import clean, label_of
from maskwright.reports.gather import PROBE_PREFIXES, Story, has_number

BLUE, ORANGE, GREEN, PURPLE = "#0067a8", "#c4500b", "#00795a", "#8a4b80"
"""Distinguishable with every common kind of colour vision (after Okabe and Ito 2008), darkened to 4.5 : 1 on white."""

INK, FAINT = "#3d4451", "#d5dae1"

PERCENT = PercentFormatter(xmax=1, decimals=0, symbol=" %")

PAIRS = "blimp_accuracy"
"""What the probe of minimal pairs calls its mean over the phenomena."""

MAX_LABEL_CHARACTERS = 40

MAX_POINTS = 600
"""Longer series are averaged in bins: finer detail is below a pixel."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "text.parse_math": False,
}


def draw(name: str, description: str, paint: Callable[[Axes], None], width: float = 4.6, height: float = 2.6) -> str:
    """Paint one chart.

    Args:
        name: unique in a document; ids in the SVG derive from it.
        description: for readers that can't see the chart.
        paint: draws into the axes.
        width: inches.
        height: inches.

    Returns:
        An `<svg>` element.
    """
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # Text is drawn by whoever shows the SVG, with fonts for more scripts than matplotlib knows.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure.add_subplot())
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = stream.getvalue()
    # Groups carry ids that nothing refers to and that are the same in every chart.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg[svg.index("<svg ") :])
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(clean(description))}" ', 1)


def shorten(text: str) -> str:
    """Return text that fits as a label."""
    text = " ".join(clean(text).split())
    return text if len(text) <= MAX_LABEL_CHARACTERS else text[: MAX_LABEL_CHARACTERS - 1] + "…"


def series(lines: Sequence[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return tokens, seconds and values of the lines that hold a finite number under `name`, in at most 600 bins."""
    rows = [(line["tokens"], line.get("seconds", np.nan), line[name]) for line in lines if has_number(line, name)]
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    if len(table) > MAX_POINTS:
        table = np.stack([part.mean(axis=0) for part in np.array_split(table, MAX_POINTS)])
    return table[:, 0], table[:, 1], table[:, 2]


def smooth(values: np.ndarray) -> np.ndarray:
    """Return the centred moving average over a twentieth of the series; the window shrinks towards both ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    indices = np.arange(len(values))
    reach = np.minimum(len(values) // 40, np.minimum(indices, indices[::-1]))
    return (sums[indices + reach + 1] - sums[indices - reach]) / (2 * reach + 1)


def tokens_axis(axes: Axes) -> None:
    """Label the horizontal axis as tokens seen."""
    axes.set_xlabel("tokens seen")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(6))


def phase_borders(axes: Axes, story: Story) -> None:
    """Mark where a phase begins, if there are several."""
    first_tokens: dict[int, float] = {}
    for line in story.training:
        first_tokens.setdefault(int(line.get("phase", 0)), line["tokens"])
    if len(first_tokens) < 2:
        return
    for phase, tokens in first_tokens.items():
        if phase:
            axes.axvline(tokens, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        if phase < len(story.record.plan.phases):
            planned = story.record.plan.phases[phase]
            label = shorten(f"{planned.objective}, {planned.sequence_length} tokens")
            axes.annotate(label, (tokens, 1), (4, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
                          va="top", fontsize=8)  # fmt: skip


def loss_chart(story: Story) -> str | None:
    """Training loss over tokens: every logged step, and smoothed."""
    tokens, _, values = series(story.training, "loss")
    if len(values) < 2:
        return None

    def paint(axes: Axes) -> None:
        axes.plot(tokens, values, color=BLUE, alpha=0.28, linewidth=0.9, label="logged")
        axes.plot(tokens, smooth(values), color=BLUE, linewidth=1.8, label="smoothed")
        # The first steps are far above all others; the axis may cut them off but never the rest.
        top = float(np.quantile(values, 0.995))
        if values.max() > top + 0.5 * (top - values.min()):
            axes.set_ylim(top=top + 0.1 * (top - values.min()))
        axes.set_ylabel("loss (nats per scored token)")
        tokens_axis(axes)
        phase_borders(axes, story)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, ncols=2)

    description = f"Training loss from {values[0]:.2f} to {smooth(values)[-1]:.2f} over {tokens[-1]:,.0f} tokens"
    return draw("loss", description, paint, width=9.4, height=3.0)


def probe_charts(story: Story) -> list[str]:
    """Scores during training: held-out accuracy and losses, the unigram baseline dashed, and minimal pairs.

    Of an objective with a single term, whose loss is the term, the loss alone is drawn; where figures of clean tokens
    are known, those of all are not drawn, nor what is the same in other units.
    """
    found = {name for line in story.probes for name in line if name.startswith(PROBE_PREFIXES)}
    found -= {name.replace("clean_", "") for name in found if "clean_" in name} | {"held_out_bits_per_byte"}
    names = sorted(found)
    pairs = [name for name in names if name.startswith("blimp_")]
    shares = [name for name in names if name.endswith(("accuracy", "agreement")) and name not in pairs]
    others = [name for name in names if name not in shares + pairs]
    terms = [name for name in others if not name.endswith("cross_entropy") and name != "held_out_loss"]
    if len(terms) == 1 and "held_out_loss" in others:
        others.remove(terms[0])
    unigram = story.held_out.baselines.get("unigram", {}) if story.held_out else {}
    baseline = {f"held_out_{metric}": value for metric, value in unigram.items()}
    charts = [
        probe_chart(story, "shares", "Held-out accuracy", shares, baseline),
        probe_chart(story, "nats", "Held-out losses", others, baseline),
        pairs_chart(story, pairs),
    ]
    return [found for found in charts if found is not None]


def probe_chart(story: Story, kind: str, title: str, names: list[str], baseline: dict[str, float]) -> str | None:
    """Return one chart of what probes measured; None without data."""
    curves = {name: series(story.probes, name) for name in names}
    curves = {name: curve for name, curve in curves.items() if len(curve[2])}
    if not curves:
        return None

    def paint(axes: Axes) -> None:
        for colour, (name, (tokens, _, values)) in zip((BLUE, ORANGE, GREEN, PURPLE), curves.items(), strict=False):
            label = shorten(label_of(name.removeprefix("held_out_")))
            axes.plot(tokens, values, color=colour, linewidth=1.6, marker="o", markersize=3, label=label)
            if name in baseline:
                axes.axhline(baseline[name], color=colour, linewidth=1, linestyle=(0, (2, 2)))
        if kind == "nats":
            axes.set_ylabel("nats per scored token")
        else:
            axes.yaxis.set_major_formatter(PERCENT)
        if kind == "shares":
            axes.set_ylim(bottom=0)
        axes.set_title(title)
        tokens_axis(axes)
        axes.legend(loc="best")

    last = ", ".join(f"{label_of(name)} {curve[2][-1]:.3f}" for name, curve in curves.items())
    return draw(f"probe-{kind}", f"{title} during training; at the end {last}", paint)


def pairs_chart(story: Story, names: list[str]) -> str | None:
    """Return the accuracy on minimal pairs, all together and, thin, each phenomenon; chance dashed."""
    curves = {name: series(story.probes, name) for name in names}
    if PAIRS not in curves or not len(curves[PAIRS][2]):
        return None
    tokens, _, values = curves.pop(PAIRS)

    def paint(axes: Axes) -> None:
        for number, (part_tokens, _, part_values) in enumerate(curves.values()):
            label = "each phenomenon" if number == 0 else None
            axes.plot(part_tokens, part_values, color=INK, alpha=0.3, linewidth=0.8, label=label)
        axes.plot(tokens, values, color=BLUE, linewidth=1.6, marker="o", markersize=3, label="mean of phenomena")
        axes.axhline(0.5, color=BLUE, linewidth=1, linestyle=(0, (2, 2)))
        axes.yaxis.set_major_formatter(PERCENT)
        axes.set_title("Minimal pairs")
        tokens_axis(axes)
        axes.legend(loc="best")

    description = f"Minimal pairs during training; at the end {values[-1]:.3f}, chance is 0.5"
    return draw("probe-pairs", description, paint)


def step_charts(story: Story) -> list[str]:
    """Small charts of what belongs to the training step: learning rate, gradient norm, speed, utilisation."""
    charts = [
        step_chart(story, "learning_rate", "Learning rate", is_noisy=False),
        step_chart(story, "gradient_norm", "Gradient norm", is_noisy=True),
        step_chart(story, "tokens_per_second", "Tokens per second", is_noisy=True, is_over_time=True),
        step_chart(story, "utilisation", "Utilisation", is_noisy=True, is_over_time=True),
    ]
    return [found for found in charts if found is not None]


def step_chart(story: Story, name: str, title: str, is_noisy: bool, is_over_time: bool = False) -> str | None:
    """One metric of the training step over tokens or minutes; noisy ones also smoothed. None without data."""
    tokens, seconds, values = series(story.training, name)
    if len(values) < 2:
        return None
    unit, unit_seconds = ("minutes", 60) if seconds[-1] > 180 else ("seconds", 1)
    across = seconds / unit_seconds if is_over_time else tokens

    def paint(axes: Axes) -> None:
        axes.plot(across, values, color=BLUE, alpha=0.28 if is_noisy else 1, linewidth=0.9 if is_noisy else 1.6)
        if is_noisy:
            axes.plot(across, smooth(values), color=BLUE, linewidth=1.6)
            axes.set_ylim(0, 1.15 * float(np.quantile(values, 0.99)) or 1)
        axes.set_title(title)
        if is_over_time:
            axes.set_xlabel(f"{unit} of training")
        else:
            tokens_axis(axes)
        if name == "utilisation":
            axes.yaxis.set_major_formatter(PERCENT)
        elif name == "tokens_per_second":
            axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        elif name == "learning_rate":
            axes.yaxis.set_major_formatter("{x:g}")

    return draw(name, f"{title}; at the end {values[-1]:.3g}", paint, height=2.2)


def frequency_chart(story: Story) -> str | None:
    """How often each token occurs in the training text, most frequent first, both axes logarithmic."""
    if story.unigram_counts_V is None:
        return None
    counts = np.sort(story.unigram_counts_V[story.unigram_counts_V > 0])[::-1]
    if len(counts) < 10:
        return None
    ranks = np.unique(np.geomspace(1, len(counts), 200).astype(np.int64))

    def paint(axes: Axes) -> None:
        axes.loglog(ranks, counts[ranks - 1], color=BLUE, linewidth=1.6)
        axes.set_title("Token frequency by rank")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(EngFormatter(sep=""))
            axis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("rank")
        axes.set_ylabel("occurrences")

    unused = len(story.unigram_counts_V) - len(counts)
    return draw("frequency", f"Frequency of tokens by rank; {unused} tokens of the vocabulary never occur", paint)
