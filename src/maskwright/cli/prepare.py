"""`maskwright prepare`: text to token shards."""

from pathlib import Path
from typing import Annotated

import tyro

from maskwright.cli.work import Work


def prepare(
    recipe: tyro.conf.Positional[Path],
    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    out: Path = Path("runs/corpora"),
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    collocations: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> Work:
    """Read a recipe's text, train its tokenizer and write token shards; done before, it is found again.

    Args:
        recipe: the recipe; its sections `data` and `tokenizer` are used.
        data: text instead of the recipe's: a file, folder, glob, hf:dataset/config/split or builtin:docstrings; may be
            given several times.
        out: folder for prepared corpora; the corpus gets a folder of its own there, named by what went into it.
        set: a value that replaces the recipe's, such as --set tokenizer.vocabulary_size=8000; may be given several
            times.
        collocations: also find the text's collocations, for the masking strategy pmi (training finds them itself where
            they are missing), with the options of the recipe's first phase that has it.
    """
    return Work(
        "maskwright.pipeline.corpora:prepare",
        recipe,
        data=data,
        out=out,
        set=set,
        collocations=collocations,
        shown_by="maskwright.reports.terminal.print_results:print_corpus",
    )
