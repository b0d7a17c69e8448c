"""Draws a run's report and model card again."""

from pathlib import Path

from maskwright.core.records.run import RunFolder
from maskwright.reports.html import write_report
from maskwright.reports.model_card import write_model_card


def report(run: str | Path) -> list[Path]:
    """Draw RUN/report.html, and the model card if there is a model; return their paths.

    Args:
        run: a run folder; one that goes on can be looked at too.

    Raises:
        CheckpointError: it is no run folder, or a record is damaged.
    """
    run = Path(run)
    return [write_report(run), *([write_model_card(run)] if RunFolder(run).model.is_dir() else [])]
