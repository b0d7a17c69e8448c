"""Options of a comparison; light, so that the command line's help is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class ComparisonOptions:
    """Under which budget, how often, by what.

    Attributes:
        tokens: budget of every run in tokens seen.
        flops: budget of every run in FLOPs, by the formula that `maskwright plan` shows.
        hours: budget of every run in hours of training; each measures itself before its first step.
        seeds: how many runs of each recipe, from the first recipe's seed up; 3 by default.
        tasks: what to score the runs by, as in `maskwright evaluate`; held_out,word_order by default.
        data: folder with the tasks' data sets.
        preset: how to fine-tune, such as bert or babylm2023; by default search, the best of three learning rates on
            held-back text, for each run and task.
        task_set: a setting of tasks, such as --task-set cola.training.epochs=5; may be given several times.
        baseline: name of the recipe that the others are compared with; the first by default.
        names: what to call the recipes, with commas between them; their files' names by default.
        set: a value that replaces that of every recipe, such as --set probes.num_probes=8; may be given several times.
        out: folder of the comparison; compare/NAME by default.
        corpora: folder for prepared corpora; OUT/corpora by default.
        dry_run: show what would be done, what is there already and how long it will take, and stop.
    """

    tokens: Annotated[int | None, tyro.conf.arg(metavar="COUNT")] = None
    flops: Annotated[float | None, tyro.conf.arg(metavar="COUNT")] = None
    hours: Annotated[float | None, tyro.conf.arg(metavar="HOURS")] = None
    seeds: Annotated[int | None, tyro.conf.arg(metavar="COUNT")] = None
    tasks: Annotated[str | None, tyro.conf.arg(metavar="TASKS")] = None
    data: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    preset: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    task_set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    baseline: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    names: Annotated[str | None, tyro.conf.arg(metavar="NAMES")] = None
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    corpora: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
