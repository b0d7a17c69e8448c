"""The meaning of a run's latent semantic atoms: the section of the report, and a dictionary's own page."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from maskwright.core.records.semantics import ATOMS, Atom, AtomsRecord, Profile, Senses, sample_atoms
from maskwright.reports.charts import BLUE, INK, ORANGE, PERCENT, draw, series, smooth, tokens_axis
from maskwright.reports.gather import Story

SHOWN_ATOMS = 12
"""Atoms that are shown with their contexts."""

SHOWN_CONTEXTS = 4

SHOWN_BARS = 6

HIGHEST_QUANTILE = 0.999
"""The histogram of non-zeros is cut off where so many of the tokens are."""

AGREEMENT = "_agreement"
"""Ends the name of the metric that says how often student and teacher agree."""


@dataclass(frozen=True)
class AtomBar:
    """One atom of a profile, ready to be drawn.

    Attributes:
        number: of the atom.
        name: its label.
        weight: its share of the profile.
        width: of its bar, 0 to 1: the largest weight of all bars shown with it is 1.
        is_shared: whether the other sense has it as well.
    """

    number: int
    name: str
    weight: float
    width: float
    is_shared: bool


@dataclass(frozen=True)
class ShownSense:
    """A group of occurrences of a word: its most typical context and that one's profile."""

    num_occurrences: int
    profile: Profile
    bars: list[AtomBar]


@dataclass(frozen=True)
class ShownWord:
    """A word with its senses side by side."""

    word: str
    senses: list[ShownSense]


@dataclass(frozen=True)
class SemanticsSection:
    """All that the section shows of one dictionary.

    Attributes:
        title: of the phase, or of the dictionary.
        record: the description.
        words: with senses side by side.
        atoms: some atoms with their numbers.
        charts: SVGs: non-zeros per token, atoms by frequency, and in runs teacher against student.
    """

    title: str
    record: AtomsRecord
    words: list[ShownWord]
    atoms: list[tuple[int, Atom]]
    charts: list[Markup]

    @classmethod
    def of(cls, title: str, record: AtomsRecord, charts: list[str | None]) -> "SemanticsSection":
        """Choose what is shown of a description."""
        drawn = [nonzeros_chart(record, title), atom_frequency_chart(record, title), *charts]
        return cls(
            title=title,
            record=record,
            words=[show_word(word, record) for word in record.words],
            atoms=[(number, record.atoms[number]) for number in sample_atoms(record, SHOWN_ATOMS)],
            charts=[Markup(chart) for chart in drawn if chart is not None],
        )


def semantics_of_run(story: Story) -> list[SemanticsSection]:
    """Return what the phases with atoms have to show; phases whose dictionary is not described are left out.

    Raises:
        CheckpointError: a description is damaged.
    """
    found = []
    phases = story.record.recipe.get("phases") or []
    for index, phase in enumerate(phases):
        objective = phase.get("objective", {})
        name, options = atoms_term(objective)
        folder = dictionary_folder(story, index, options)
        if (folder / ATOMS).is_file():
            title = f"Phase {index + 1}" if len(phases) > 1 else ""
            charts = [agreement_chart(story, index, name), divergence_chart(story, index, name)]
            found.append(SemanticsSection.of(title, AtomsRecord.read(folder / ATOMS), charts))
    return found


def atoms_term(objective: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of the term with a dictionary; of runs of version 1, those of the objective."""
    for term in objective.get("terms") or []:
        if "dictionary" in term:
            return str(term["name"]).rpartition(":")[2], term
    return str(objective.get("name")), objective


def dictionary_folder(story: Story, phase: int, options: dict[str, Any]) -> Path:
    """Return where a phase's dictionary is: in the folder that the recipe names, or in the phase's own."""
    dictionary = options.get("dictionary")
    named = dictionary.get("folder") if isinstance(dictionary, dict) else dictionary
    return Path(named) if isinstance(named, str) else story.folder.phase(phase) / "dictionary"


def show_word(word: Senses, record: AtomsRecord) -> ShownWord:
    """Return a word with bars of one scale for all of its senses."""
    tops = [sense.profile.atoms[:SHOWN_BARS] for sense in word.senses]
    uses = Counter(entry.atom for top in tops for entry in top)
    largest = max((entry.weight for top in tops for entry in top), default=1.0)
    senses = []
    for sense, top in zip(word.senses, tops, strict=True):
        bars = [
            AtomBar(
                entry.atom,
                record.atoms[entry.atom].name,
                entry.weight,
                entry.weight / largest,
                uses[entry.atom] > 1,
            )
            for entry in top
        ]
        senses.append(ShownSense(sense.num_occurrences, sense.profile, bars))
    return ShownWord(word.word, senses)


def nonzeros_chart(record: AtomsRecord, name: str) -> str | None:
    """Return how many tokens have 0, 1, 2 ... atoms; tokens without atoms in orange."""
    counts = np.array(record.nonzeros, np.float64)
    if not counts.sum():
        return None
    shares = counts / counts.sum()
    shown = int(np.searchsorted(np.cumsum(shares), HIGHEST_QUANTILE)) + 1
    mean = float((shares * np.arange(len(shares))).sum())

    def paint(axes: Axes) -> None:
        numbers = np.arange(min(shown, len(shares)))
        colours = [ORANGE if number == 0 else BLUE for number in numbers]
        axes.bar(numbers, shares[: len(numbers)], width=0.9, color=colours)
        axes.axvline(mean, color=INK, linewidth=1, linestyle=(0, (3, 3)))
        axes.annotate(f"mean {mean:.1f}", (mean, 1), (4, -9), xycoords=("data", "axes fraction"),
                      textcoords="offset points", fontsize=8)  # fmt: skip
        axes.set_ylim(top=1.15 * float(shares.max()))
        axes.set_title("Atoms per token")
        axes.set_xlabel("atoms in a token's code")
        axes.yaxis.set_major_formatter(PERCENT)
        axes.grid(visible=False, axis="x")

    description = f"Atoms per token: {mean:.1f} on average; {100 * shares[0]:.1f} % of tokens have none"
    return draw(f"nonzeros-{name}", description, paint)


def atom_frequency_chart(record: AtomsRecord, name: str) -> str | None:
    """Return how often each atom is used, most frequent first; the dead ones are where the line ends."""
    frequencies = np.sort([atom.frequency for atom in record.atoms])[::-1]
    used = frequencies[frequencies > 0]
    if len(used) < 2:
        return None
    num_dead = record.num_dead_atoms

    def paint(axes: Axes) -> None:
        axes.semilogy(np.arange(1, len(used) + 1), used, color=BLUE, linewidth=1.6)
        if num_dead:
            axes.axvspan(len(used), len(frequencies), color=ORANGE, alpha=0.25, linewidth=0)
            axes.annotate(f"{num_dead:,} dead", (len(frequencies), 1), (-2, -9), xycoords=("data", "axes fraction"),
                          textcoords="offset points", fontsize=8, ha="right")  # fmt: skip
        axes.set_title("Atom frequency by rank")
        axes.set_xlabel("rank")
        axes.set_ylabel("share of tokens")
        axes.set_xlim(0, len(frequencies) * 1.02)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g} %")
        axes.yaxis.set_minor_formatter(NullFormatter())

    description = f"Share of tokens that use each atom, by rank; {num_dead} of {len(record.atoms)} atoms are dead"
    return draw(f"atoms-{name}", description, paint)


def agreement_chart(story: Story, phase: int, term: str) -> str | None:
    """Return how often the student's strongest atom is the teacher's; None before two steps were logged."""
    title, unit = "Student agrees with teacher", "share of scored tokens"
    named = f"{term}{AGREEMENT}"
    # Runs of version 1 logged it without the term's name.
    metric = named if any(named in line for line in story.training) else AGREEMENT.lstrip("_")
    return _over_training(story, phase, metric, title, unit)


def divergence_chart(story: Story, phase: int, term: str) -> str | None:
    """Return the divergence of the student's atoms from the teacher's, under the term's name."""
    return _over_training(story, phase, term, "Divergence from the teacher", "nats per scored token")


def _over_training(story: Story, phase: int, metric: str, title: str, unit: str) -> str | None:
    lines = [line for line in story.training if int(line.get("phase", 0)) == phase]
    tokens, _, values = series(lines, metric)
    if len(values) < 2:
        return None

    def paint(axes: Axes) -> None:
        axes.plot(tokens, values, color=BLUE, alpha=0.28, linewidth=0.9)
        axes.plot(tokens, smooth(values), color=BLUE, linewidth=1.6)
        axes.set_ylim(bottom=0)
        axes.set_title(title)
        axes.set_ylabel(unit)
        if metric.endswith(AGREEMENT.lstrip("_")):
            axes.yaxis.set_major_formatter(PERCENT)
        tokens_axis(axes)

    return draw(f"{metric}-{phase}", f"{title}; at the end {smooth(values)[-1]:.3f}", paint)
