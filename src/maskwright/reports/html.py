"""`report.html`: one self-contained file that reads well offline, in print and in ten years. No script in it."""

from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from maskwright.core.files import write_text_atomically
from maskwright.core.records import RunFolder
from maskwright.reports.charts import frequency_chart, loss_chart, probe_charts, step_charts
from maskwright.reports.formatting import NUMBER_FILTERS, TEXT_FILTERS, clean
from maskwright.reports.gather import Story, gather


def write_report(run: Path) -> Path:
    """Draw `report.html` of a run, finished or not, from the records in its folder.

    Returns:
        Where it was written.

    Raises:
        CheckpointError: `run` is not a run folder, or a record in it is damaged.
    """
    path = RunFolder(run).report
    write_text_atomically(path, render(gather(run)))
    return path


def render(story: Story) -> str:
    """Return the report as HTML. Equal records give equal bytes."""
    environment = Environment(
        loader=PackageLoader("maskwright.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=cleaned,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({**NUMBER_FILTERS, **TEXT_FILTERS})
    return environment.get_template("report.html.j2").render(
        story=story,
        record=story.record,
        recipe=yaml.safe_dump(story.record.recipe, sort_keys=False, allow_unicode=True, width=100),
        dropped=[(reason, count) for reason, count in story.corpus.dropped.items() if count] if story.corpus else [],
        loss_chart=markup(loss_chart(story)),
        probe_charts=[markup(chart) for chart in probe_charts(story)],
        step_charts=[markup(chart) for chart in step_charts(story)],
        frequency_chart=markup(frequency_chart(story)),
        headlines=headlines(story),
    )


def cleaned(value: Any) -> Any:
    """Clean every piece of text on its way into the page; `Markup` is our own and stays."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def markup(svg: str | None) -> Markup | None:
    """Mark an SVG that we drew as safe."""
    return None if svg is None else Markup(svg)


def headlines(story: Story) -> list[dict[str, Any]]:
    """Return the scores that stand on top: name, value, the baseline's value and which of the two should be larger."""
    if story.held_out is None:
        return []
    baseline = story.held_out.baselines.get("unigram", {})
    return [
        {"name": name, "value": story.held_out.scores[name], "baseline": baseline.get(name)}
        for name in ("top1_accuracy", "top5_accuracy", "cross_entropy")
        if name in story.held_out.scores
    ]
