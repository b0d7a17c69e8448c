"""`maskwright fill`: what a model would put where a text says [MASK]."""

from pathlib import Path

from maskwright.cli.work import Work


def fill(model: Path, text: str, /, top: int = 5) -> Work:
    """Fill the masks of a text and show the best guesses.

    Args:
        model: a run folder, any Hugging Face model folder with a vocabulary head, or a model's name on the hub.
        text: a text with [MASK] in place of one or more words.
        top: guesses to show for each mask.
    """
    return Work(
        "maskwright.pipeline.fill_masks:fill",
        model,
        text,
        top,
        shown_by="maskwright.reports.terminal.print_results:print_filled",
    )
