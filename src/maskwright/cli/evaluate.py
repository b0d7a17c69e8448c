"""`maskwright evaluate`: score a model and, inside a run folder, redraw its report and model card."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class HowToEvaluate:
    """What to score a model by, on which data.

    Attributes:
        tasks: names of tasks and suites, and paths of YAML files, with commas between them; `maskwright list tasks`
            shows what there is.
        data: folder with the data sets in their original layouts; without it they are loaded from the hub.
        corpus: a prepared corpus for the task held_out, made with the model's tokenizer; the run's own by default.
        seeds: how often to fine-tune, with the seeds 12, 13 and so on.
        seed: of everything else that is drawn, such as the hidden words; the run's own by default, else 1.
        preset: how to fine-tune, such as bert or babylm2023; docs/fine_tuning.md has all.
        set: a setting of one task or of all that have it, such as --set cola.training.epochs=5 or
            --set training.learning_rate=3e-5; may be given several times.
        against: another run, model folder or hub name, scored by the same tasks and compared item by item.
        babylm: also write the submission to the BabyLM challenge of a year, 2023 to 2026, and check its counts.
        again: do again what is finished; by default it is kept where model, data and settings are the same.
        out: folder for the records; by default RUN/evaluation, FOLDER/evaluation for a model folder, and
            evaluation/NAME for a model of the hub.
    """

    tasks: str = "held_out"
    data: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    corpus: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    seeds: Annotated[int, tyro.conf.arg(metavar="COUNT")] = 1
    seed: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    preset: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    against: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    babylm: Annotated[int | None, tyro.conf.arg(metavar="YEAR")] = None
    again: tyro.conf.FlagCreatePairsOff[bool] = False
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None


def evaluate(model: Annotated[str, tyro.conf.arg(metavar="MODEL")], /, how: HowToEvaluate) -> None:
    """Score a model and write one record a task.

    Any masked encoder can be scored. Given a run folder, the records go to RUN/evaluation, and report.html and the
    model card are redrawn.

    Args:
        model: a run folder, any Hugging Face model folder, or a model's name on the hub.
        how: by what, on which data, how often.
    """
    from maskwright.pipeline.evaluate import score

    score(model, how)
