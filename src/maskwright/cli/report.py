"""`maskwright report`: draw report.html and the model card of a run again."""

from pathlib import Path


def report(run: Path, /) -> None:
    """Draw RUN/report.html and the model card from what is in the run folder; a run that goes on can be looked at too.

    Args:
        run: a run folder.
    """
    from maskwright.core.records.run import RunFolder
    from maskwright.reports import write_model_card, write_report

    print(write_report(run))
    if RunFolder(run).model.is_dir():
        print(write_model_card(run))
