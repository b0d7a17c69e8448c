"""`maskwright profile`: which latent semantic atoms a word in context is made of."""

from pathlib import Path
from typing import Annotated

import tyro

from maskwright.cli.work import Work


def profile(
    source: Annotated[Path, tyro.conf.arg(metavar="RUN_OR_DICTIONARY")],
    text: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT")],
    /,
    model: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None,
    top: Annotated[int, tyro.conf.arg(metavar="COUNT")] = 8,
    contexts: Annotated[int, tyro.conf.arg(metavar="COUNT")] = 2,
) -> Work:
    """Show the latent semantic profile of words: their strongest atoms, with labels and nearest contexts in the corpus.

    Words in brackets are profiled; those of several texts stand side by side, and the atoms that they share are marked:
    maskwright profile RUN "The bank raised its [rates] again." "We sat on the river [bank]."

    Args:
        source: a run with a phase of mlsm, or a folder that `maskwright dictionary` made. Of a run, what the student
            predicts for the word when it is masked is shown as well.
        text: a text with one or more [words] in brackets; several texts may be given.
        model: the model that a dictionary was learned from, if it is not where it was.
        top: atoms to show for each word.
        contexts: nearest contexts to show for each atom.
    """
    return Work(
        "maskwright.pipeline.profile:profile",
        source,
        text,
        model=model,
        top=top,
        num_contexts=contexts,
        shown_by="maskwright.reports.terminal.print_semantics:print_profiles_of",
    )
