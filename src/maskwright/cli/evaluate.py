"""`maskwright evaluate`: score a model and, inside a run folder, redraw its report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from maskwright.core.records import EvaluationRecord


def evaluate(
    model: Path,
    /,
    corpus: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    tasks: str = "held_out",
    seed: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
) -> None:
    """Score a model and write one record a task.

    Given a run folder, its model is scored on its corpus, the records go to RUN/evaluation, and report.html and the
    model card are redrawn.

    Args:
        model: a run folder, or any Hugging Face model folder.
        corpus: a prepared corpus; the run's own by default. Must be made with the model's tokenizer.
        tasks: names of tasks with commas between them; `maskwright list tasks` shows them.
        seed: of everything that is drawn, such as the hidden words; the run's own by default, else 1.
        out: folder for the records; RUN/evaluation by default, else `evaluation` in the model folder.
    """
    from maskwright.cli.places import model_folder_of
    from maskwright.core.errors import EvaluationError
    from maskwright.core.records import RunFolder, RunRecord
    from maskwright.corpus.corpus import open_corpus
    from maskwright.evaluation.run import evaluate as evaluate_model
    from maskwright.reports import write_model_card, write_report

    run = RunFolder(model)
    record = RunRecord.read(run.run_record) if run.run_record.exists() else None
    corpus = corpus or (Path(record.corpus) if record else None)
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise EvaluationError("--tasks names no task", "for example --tasks held_out")
    records = evaluate_model(
        model_folder_of(model),
        open_corpus(corpus, verify=True) if corpus else None,
        {name: {} for name in names},
        seed if seed is not None else int(record.recipe["seed"]) if record else 1,
        out or (run.evaluation if record else model / "evaluation"),
    )
    for evaluation in records:
        print_scores(evaluation)
        print_examples(evaluation)
    if record and out is None:
        write_model_card(model)
        print(write_report(model))


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
