"""`compare.html`: a comparison of recipes on one page, drawn from its record. No script in it."""

from pathlib import Path

from maskwright.core.integrity import write_sealed
from maskwright.core.records.comparison import RecipeComparisonRecord, comparison_page_path, comparison_path
from maskwright.reports.comparison.charts import curve_charts, pareto_charts
from maskwright.reports.comparison.cost_to_quality import cost_to_quality_table
from maskwright.reports.comparison.tables import arms_table, differences_table, runs_table, settings_table
from maskwright.reports.html import mark_safe, page_environment

MOST_MEASURES = 3
"""Drawn over cost; the table has them all."""


def write_comparison(folder: Path) -> Path:
    """Draw `compare.html` of a comparison from `comparison.json`.

    Returns:
        Where it was written.

    Raises:
        CheckpointError: the record is missing or damaged.
    """
    path = comparison_page_path(folder)
    write_sealed(path, render(RecipeComparisonRecord.read(comparison_path(folder))))
    return path


def render(record: RecipeComparisonRecord) -> str:
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
            pareto=[mark_safe(chart) for chart in pareto_charts(record, MOST_MEASURES)],
            curves=[mark_safe(chart) for chart in curve_charts(record)],
            reached=cost_to_quality_table(record),
        )
    )
