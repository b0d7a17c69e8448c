"""`maskwright report`: draw the report and the model card of a run again."""

from pathlib import Path

from maskwright.cli.work import Work


def report(run: Path, /) -> Work:
    """Draw RUN/report.html and the model card from what is in the run folder; a run that goes on can be looked at too.

    Args:
        run: a run folder.
    """
    return Work(
        "maskwright.pipeline.draw_report:report", run, shown_by="maskwright.reports.terminal.print_results:print_paths"
    )
