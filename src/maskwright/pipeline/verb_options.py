"""Options of the verbs that have many; light, so that the command line's help is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class EvaluationOptions:
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


@dataclass(frozen=True)
class LearningOptions:
    """Of what text a dictionary is learned, and how.

    Attributes:
        data: the text: a file, folder, glob, hf:dataset/config/split or builtin:docstrings; may be given several times.
            Of a run folder, the run's own text by default.
        out: folder for the dictionary, its description and report.html.
        atoms: how many atoms (K); 3000 in the reference.
        penalty: weight of the L1 norm in the codes; 0.05 in the reference. The larger, the fewer atoms a token has.
        layer: whose hidden states: 0 is the embedding's output, -1 the last layer, -2 the one before.
        states: hidden states to learn from, a uniform sample of those that the text gives.
        tokens: tokens of text that the model reads for it, drawn from the whole text.
        updates: minibatches of learning, of 512 states each.
        sequence_length: tokens in a sequence, with specials; longer documents are cut. 128, or what the model takes.
        seed: of all that is drawn.
        corpora: folder for the prepared text; the folder `corpora` beside the dictionary by default.
    """

    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("dictionary")
    atoms: Annotated[int, tyro.conf.arg(metavar="COUNT")] = 3000
    penalty: Annotated[float, tyro.conf.arg(name="lambda", metavar="FLOAT")] = 0.05
    layer: Annotated[int, tyro.conf.arg(metavar="INT")] = -1
    states: Annotated[int, tyro.conf.arg(metavar="COUNT")] = 200_000
    tokens: Annotated[int, tyro.conf.arg(metavar="COUNT")] = 1_000_000
    updates: Annotated[int, tyro.conf.arg(metavar="COUNT")] = 800
    sequence_length: Annotated[int | None, tyro.conf.arg(metavar="TOKENS")] = None
    seed: Annotated[int, tyro.conf.arg(metavar="INT")] = 1
    corpora: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
