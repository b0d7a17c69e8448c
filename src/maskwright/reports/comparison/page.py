"""`compare.html`: a comparison of recipes on one page, drawn from its record. No script in it."""

from pathlib import Path

from maskwright.core.files import write_text_atomically
from maskwright.core.records.comparison import RecipeComparison, comparison_page, comparison_record
from maskwright.reports.comparison.charts import curve_charts, pareto_charts
from maskwright.reports.comparison.cost_to_quality import reached_table
from maskwright.reports.comparison.tables import arms_table, differences_table, runs_table, settings_table
from maskwright.reports.html import markup, page_environment

MOST_MEASURES = 3
"""Drawn over cost; the table has them all."""


def write_comparison(folder: Path) -> Path:
    """Draw `compare.html` of a comparison from `comparison.json`.

    Returns:
        Where it was written.

    Raises:
        CheckpointError: the record is missing or damaged.
    """
    path = comparison_page(folder)
    write_text_atomically(path, render(RecipeComparison.read(comparison_record(folder))))
    return path


def render(record: RecipeComparison) -> str:
    """Return the page as HTML. Equal records give equal bytes."""
    table = arms_table(record)
    return (
        page_environment()
        .get_template("compare.html.j2")
        .render(
            record=record,
            num_runs=sum(len(arm.runs) for arm in record.arms),
            num_failed=sum(run.problem is not None for arm in record.arms for run in arm.runs),
            arms=table,
            differences=differences_table(record) if record.differences else None,
            settings=settings_table(record),
            runs=runs_table(record),
            pareto=[markup(chart) for chart in pareto_charts(record, MOST_MEASURES)],
            curves=[markup(chart) for chart in curve_charts(record)],
            reached=reached_table(record),
        )
    )
