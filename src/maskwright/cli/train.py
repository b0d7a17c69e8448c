"""`maskwright train`: from text to a model, its scores and its report; stopped anywhere, `--resume` goes on."""

from pathlib import Path
from typing import Annotated

import tyro

from maskwright.cli.work import Work


def train(
    recipe: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="RECIPE")] = None,
    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    hours: Annotated[float | None, tyro.conf.arg(metavar="HOURS")] = None,
    run: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    resume: tyro.conf.FlagCreatePairsOff[bool] = False,
    from_model: Annotated[Path | None, tyro.conf.arg(name="from", metavar="FOLDER")] = None,
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    corpora: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    corpus: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
) -> Work:
    """Prepare the text, train, export, evaluate and report; every stage's result is in the run folder.

    Args:
        recipe: a recipe in YAML, such as recipes/small.yaml; left out with --resume, or with --data and --hours, for
            which one is chosen.
        data: text instead of the recipe's: a file, folder, glob, hf:dataset/config/split or builtin:docstrings; may be
            given several times.
        hours: of training, instead of the recipe's budget.
        run: folder of the run; runs/NAME by default, NAME being the recipe's name.
        resume: go on with the run in --run, from its newest whole checkpoint, to the same result as if it had never
            been stopped.
        from_model: a Hugging Face folder with any masked encoder that transformers has, or a run folder, to continue
            from; its architecture and its tokenizer take the place of the recipe's.
        set: a value that replaces the recipe's, such as --set optimizer.learning_rate=1e-3; may be given several times.
            With --resume: a learning rate or optimizer.clip_norm, from the next step on.
        corpora: folder for prepared corpora; the folder `corpora` next to the run by default.
        corpus: a corpus that was prepared before, instead of the recipe's text: runs with several seeds on one corpus
            have the same tokenizer and the same held-out text. With --resume: where the run's corpus was moved to.
    """
    return Work(
        "maskwright.pipeline.train:train",
        recipe,
        data=data,
        hours=hours,
        run=run,
        resume=resume,
        from_model=from_model,
        set=set,
        corpora=corpora,
        corpus=corpus,
    )
