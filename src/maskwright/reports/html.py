"""`report.html`: one self-contained file that reads well offline, in print and in ten years. No script in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from maskwright.core.integrity import write_sealed
from maskwright.core.records.run import RunFolder
from maskwright.core.records.semantics import ATOMS, AtomsRecord
from maskwright.reports.charts import frequency_chart, loss_chart, probe_charts, step_charts
from maskwright.reports.formatting import NUMBER_FILTERS, TEXT_FILTERS, clean, format_score, label_of
from maskwright.reports.gather import Story, gather
from maskwright.reports.score_charts import parts_chart
from maskwright.reports.semantics import SemanticsSection, semantics_of_run
from maskwright.reports.tables import INTERVAL, WHOLE, Table, comparison_table, detail_table, score_tables, title_of


def write_report(run: Path) -> Path:
    """Draw `report.html` of a run, finished or not, from the records in its folder.

    Returns:
        Where it was written.

    Raises:
        CheckpointError: `run` is not a run folder, or a record in it is damaged.
    """
    path = RunFolder(run).report
    write_sealed(path, render(gather(run)))
    return path


def write_dictionary_report(folder: Path) -> Path:
    """Draw `report.html` of a dictionary from the description in its folder; return where it was written.

    Raises:
        CheckpointError: the dictionary was not described, or the description is damaged.
    """
    semantics = SemanticsSection.of("", AtomsRecord.read(folder / ATOMS), [])
    page = page_environment().get_template("dictionary.html.j2").render(name=folder.resolve().name, semantics=semantics)
    path = folder / RunFolder(folder).report.name
    write_sealed(path, page)
    return path


def render(story: Story) -> str:
    """Return the report as HTML. Equal records give equal bytes."""
    tables = score_tables(list(story.evaluations.values()))
    return (
        page_environment()
        .get_template("report.html.j2")
        .render(
            story=story,
            record=story.record,
            recipe=yaml.safe_dump(story.record.recipe, sort_keys=False, allow_unicode=True, width=100),
            score_tables=tables,
            parts_charts=charts_of_parts(story),
            details=detail_table(list(story.evaluations.values())),
            comparisons=[comparison_table(comparison) for comparison in story.comparisons],
            loss_chart=mark_safe(loss_chart(story)),
            probe_charts=[mark_safe(chart) for chart in probe_charts(story)],
            step_charts=[mark_safe(chart) for chart in step_charts(story)],
            frequency_chart=mark_safe(frequency_chart(story)),
            headlines=[*headlines_of_tables(tables), *headlines_of_held_out(story)],
            semantics=semantics_of_run(story),
        )
    )


def page_environment() -> Environment:
    """Return what turns templates into pages: everything is escaped and cleaned on its way in."""
    environment = Environment(
        loader=PackageLoader("maskwright.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=clean_value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({**NUMBER_FILTERS, **TEXT_FILTERS, "title_of": title_of})
    return environment


def charts_of_parts(story: Story) -> dict[str, Markup | None]:
    """Return the charts that stand under the tables of parts, by the tables' names."""
    drawn = {record.task: parts_chart(record) for record in story.evaluations.values()}
    return {f"{task}-parts": mark_safe(chart) for task, chart in drawn.items() if chart is not None}


def clean_value(value: Any) -> Any:
    """Clean every piece of text on its way into the page; `Markup` is our own and stays."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def mark_safe(svg: str | None) -> Markup | None:
    """Mark an SVG that we drew as safe."""
    return None if svg is None else Markup(svg)


@dataclass(frozen=True)
class Headline:
    """A score at the top of the page.

    Attributes:
        label: what it is.
        value: as text.
        unit: of the value.
        versus: what it is to be compared with.
    """

    label: str
    value: str
    unit: str = ""
    versus: str = ""


def headlines_of_tables(tables: Sequence[Table]) -> list[Headline]:
    """Return the averages of suites and the whole of sets with intervals, such as BLiMP."""
    found = []
    for table in tables:
        if table.total is None or INTERVAL not in table.columns:
            continue
        label, *cells = table.total
        score = next((cell for cell in cells if cell), "")
        what = label if label != WHOLE else table.columns[1]
        found.append(Headline(table.title, score.partition(" ±")[0], versus=what))
    return found


def headlines_of_held_out(story: Story) -> list[Headline]:
    """Return the scores on held-out text with the unigram baseline: of clean tokens, where it is known which are."""
    if story.held_out is None:
        return []
    scores, baseline = story.held_out.scores, story.held_out.baselines.get("unigram", {})
    found = []
    for metric in ("top1_accuracy", "top5_accuracy", "cross_entropy"):
        name = f"clean_{metric}" if f"clean_{metric}" in scores else metric
        if name not in scores:
            continue
        versus = []
        if name in baseline:
            versus.append(f"unigram baseline {format_score(name, baseline[name])}")
            if metric != "cross_entropy" and baseline[name] > 0:
                versus.append(f"{scores[name] / baseline[name]:.1f} times that")
        if name != metric:
            versus.append(f"with tokens of runs that training has too {format_score(metric, scores[metric])}")
        unit = "nats" if metric == "cross_entropy" else ""
        value = format_score(name, scores[name])
        found.append(Headline(f"Masked {label_of(metric)}", value, unit, " · ".join(versus)))
    return found
