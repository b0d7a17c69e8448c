"""`maskwright fill`: what a model would put where a text says [MASK]."""

from pathlib import Path


def fill(model: Path, text: str, /, top: int = 5) -> None:
    """Fill the masks of a text and show the best guesses.

    Args:
        model: a run folder, any Hugging Face model folder with a vocabulary head, or a model's name on the hub.
        text: a text with [MASK] in the place of one or more words.
        top: guesses to show for each mask.
    """
    from rich.console import Console
    from rich.table import Table

    from maskwright.core.errors import EvaluationError
    from maskwright.core.log import printable
    from maskwright.evaluation.fill import fill_masks
    from maskwright.pipeline.evaluated_model import subject_of
    from maskwright.pipeline.locate import model_folder_of

    if top < 1:
        raise EvaluationError(f"--top {top}", "at least 1")
    filled = fill_masks(subject_of(model_folder_of(model)).masked_language_model, text, top)
    out = Console(highlight=False, soft_wrap=True)
    out.print(f"[bold]{printable(filled.text)}[/bold]")
    for number, guesses in enumerate(filled.guesses, start=1):
        title = f"mask {number}" if len(filled.guesses) > 1 else ""
        table = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
        table.add_column(justify="right")
        table.add_column()
        table.add_column()
        for guess in guesses:
            bar = "█" * round(30 * guess.probability)
            table.add_row(f"{100 * guess.probability:.1f} %", printable(guess.token), f"[blue]{bar}[/blue]")
        out.print(table)
