"""`maskwright evaluate`: score a model and, inside a run folder, redraw its report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from maskwright.core.records import EvaluationRecord


def evaluate(
    model: str,
    /,
    tasks: str = "held_out",
    data: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    corpus: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    seeds: Annotated[int, tyro.conf.arg(metavar="COUNT")] = 1,
    seed: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
    preset: str | None = None,
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    again: tyro.conf.FlagCreatePairsOff[bool] = False,
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
) -> None:
    """Score a model and write one record a task.

    Given a run folder, the records go to RUN/evaluation, and report.html and the model card are redrawn. What was
    finished before, for the same model, data and settings, is kept and not done again.

    Args:
        model: a run folder, any Hugging Face folder with a masked encoder, or its name on the hub.
        tasks: names of tasks and suites, and paths of YAML files, with commas between them; `maskwright list tasks`
            shows what there is.
        data: folder with the data sets in their original layouts; without it they are loaded from the hub.
        corpus: a prepared corpus for the task held_out; the run's own by default.
        seeds: how often to fine-tune, with the seeds 12, 13 and so on.
        seed: of everything else that is drawn, such as the hidden words; the run's own by default, else 1.
        preset: how to fine-tune: default, bert, babylm2023 or babylm2024.
        set: a setting of one task or of all that have it, such as --set cola.training.epochs=5 or
            --set training.learning_rate=3e-5; may be given several times.
        again: do again what is finished.
        out: folder for the records; RUN/evaluation by default, else `evaluation` in the model folder.
    """
    from maskwright.cli.evaluating import evaluate_and_report

    evaluate_and_report(model, tasks, data, corpus, seeds, seed, preset, set, again, out)


def print_scores(evaluation: "EvaluationRecord") -> None:
    """Print the scores of one task beside its baselines, on standard output."""
    from rich.console import Console
    from rich.table import Table

    from maskwright.core.log import printable
    from maskwright.reports.formatting import score, spoken

    table = Table(title=printable(spoken(evaluation.task)), title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    table.add_column("model", justify="right", style="bold")
    for baseline in evaluation.baselines:
        table.add_column(printable(baseline), justify="right", style="dim")
    for name, value in evaluation.scores.items():
        if not name.startswith("sum_"):
            others = [score(name, values[name]) if name in values else "" for values in evaluation.baselines.values()]
            table.add_row(printable(spoken(name)), score(name, value), *others)
    Console(highlight=False).print(table)


def print_examples(evaluation: "EvaluationRecord") -> None:
    """Print the fill-mask examples of one task, on standard output; nothing where it has none."""
    from rich.console import Console

    from maskwright.core.log import printable

    out = Console(highlight=False, soft_wrap=True)
    for example in evaluation.examples:
        guesses = " · ".join(f"{guess['token']} {guess['probability']:.0%}" for guess in example["predictions"])
        out.print(printable(example["text"]))
        out.print(f"  [dim]hidden[/dim] {printable(example['answer'])}  [dim]guesses[/dim] {printable(guesses)}")
