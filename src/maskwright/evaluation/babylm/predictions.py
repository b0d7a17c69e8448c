"""From the items of an evaluation to predictions as the BabyLM challenge collects them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwright.core.errors import EvaluationError
from maskwright.core.records.evaluation import EvaluationRecord
from maskwright.evaluation.babylm.years import ChallengeYear, LabelsPart, PairsPart
from maskwright.evaluation.catalogue import build_task
from maskwright.evaluation.evaluated_model import EvaluatedModel
from maskwright.evaluation.items import Items
from maskwright.evaluation.run_tasks import EvaluationFolder
from maskwright.evaluation.tasks.minimal_pairs import MinimalPairs

Predictions = dict[str, list[dict[str, Any]]]
"""Sub-task -> its predictions, each an "id" and a "pred", in the order of the data."""


@dataclass(frozen=True)
class SubmissionProblem:
    """Why a submission would be rejected.

    Attributes:
        part: what it is about, such as "blimp/adjunct_island".
        got: what was found.
        expected: what the challenge wants.
        to_do: what to do about it.
    """

    part: str
    got: str
    expected: str
    to_do: str

    def __str__(self) -> str:
        """Return it in one line."""
        return f"{self.part}: {self.got}, expected {self.expected}; {self.to_do}"


def record_and_items(evaluation: Path, task: str, seed: int | None) -> tuple[EvaluationRecord, Items] | None:
    """Return a task's record, and the items of one of its seeds; None if it was not scored.

    Args:
        evaluation: folder of an evaluation.
        task: its name.
        seed: the first of the task's seeds by default.

    Raises:
        EvaluationError: the task was not run with that seed.
        CheckpointError: a file is damaged, or the items are gone.
    """
    scored = EvaluationFolder(evaluation)
    if not scored.record(task).exists():
        return None
    record = EvaluationRecord.read(scored.record(task))
    seeds = [one.seed for one in record.seeds]
    is_fine_tuned = "seed" not in record.settings
    if seed is not None and is_fine_tuned and seed not in seeds:
        raise EvaluationError(f"{task} was not run with the seed {seed}", "one of " + ", ".join(map(str, seeds)))
    chosen = seed if seed is not None and is_fine_tuned else seeds[0]
    # Without items: the message of reading what is not there.
    return record, scored.read_items(task, chosen) or Items.read(scored.items(task, chosen))


def label_predictions(items: Items, name: str, part: LabelsPart) -> list[dict[str, Any]]:
    """Return the predicted labels of a fine-tuned task; our classes have the numbers of the challenge's labels."""
    labels = items.columns["prediction"].astype(int).tolist()
    return [
        {"id": f"{name}_{number}", "pred": str(label) if part.are_texts else label}
        for number, label in enumerate(labels)
    ]


def pair_predictions(items: Items, record: EvaluationRecord, data: Path | None, year: ChallengeYear) -> Predictions:
    """Return the preferred sentence of each pair, by the name of its file; of equally likely ones the good one.

    Args:
        items: of a task of minimal pairs.
        record: of that task; says how the pairs were read.
        data: the folder that they were read from.
        year: says whether a space stands before each sentence.

    Raises:
        EvaluationError: the data is not what was scored.
        MissingData: the data is not there.
    """
    task = build_task(record.kind, _config(record), record.task)
    assert isinstance(task, MinimalPairs)
    subject = EvaluatedModel(record.model, data=data)
    found = task.data_sha256(subject)
    changed = next(
        (name for name in sorted({*found, *record.data_sha256}) if found.get(name) != record.data_sha256.get(name)),
        None,
    )
    if changed is not None:
        raise EvaluationError(
            f"{record.task}: {changed} is not the data that was scored", "the same --data", "evaluate again"
        )
    pairs = task.pairs(subject.data)
    index = {str(name): number for number, name in enumerate(pairs.ids.tolist())}
    is_good = items.columns["good_log_likelihood"] >= items.columns["bad_log_likelihood"]
    space = " " if year.has_leading_space and year.container != "lines" else ""
    predictions: Predictions = {}
    for name, prefers_good in zip(items.ids.tolist(), is_good.tolist(), strict=True):
        file = name.rpartition(":")[0]
        sentences = pairs.good if prefers_good else pairs.bad
        rows = predictions.setdefault(file, [])
        rows.append({"id": f"{file}_{len(rows)}", "pred": space + sentences[index[name]]})
    return predictions


def scoring_problems(
    record: EvaluationRecord, part: PairsPart, number: int, year: ChallengeYear
) -> list[SubmissionProblem]:
    """Return where pairs were scored in another way than the year's pipeline does."""
    problems = []
    settings = record.settings
    if settings.get("mode") not in year.modes:
        problems.append(
            SubmissionProblem(
                part.key,
                f"scored in the mode {settings.get('mode')}",
                " or ".join(year.modes),
                f"evaluate again with --set {part.task}.mode=original",
            )
        )
    if bool(settings.get("leading_space")) != year.has_leading_space:
        wanted = "true" if year.has_leading_space else "false"
        problems.append(
            SubmissionProblem(
                part.key,
                f"scored {'with' if settings.get('leading_space') else 'without'} a space before each sentence",
                f"{'a' if year.has_leading_space else 'no'} space, as the pipeline of {number}",
                f"evaluate again with --set {part.task}.leading_space={wanted}",
            )
        )
    return problems


def _config(record: EvaluationRecord) -> dict[str, Any]:
    """Return the settings of a task from its record, without what was found out while it ran."""
    return {name: value for name, value in record.settings.items() if name in MinimalPairs.Config.model_fields}
