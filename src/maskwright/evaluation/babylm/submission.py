"""Writes a submission to the BabyLM challenge from an evaluation, and checks it as the organisers' scripts do.

What is not there is left out and named, never made up; a submission with problems will not be taken.
"""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwright.core.errors import EvaluationError
from maskwright.core.files import write_bytes_atomically
from maskwright.evaluation.babylm.predictions import (
    Predictions,
    SubmissionProblem,
    label_predictions,
    pair_predictions,
    record_and_items,
    scoring_problems,
)
from maskwright.evaluation.babylm.years import AbsentPart, ChallengeYear, LabelsPart, PairsPart, year_of

MOST_TOLD = 3
"""How many sub-tasks of a part are listed with their counts; the rest is only counted."""


@dataclass(frozen=True)
class Submission:
    """A submission on disk.

    Attributes:
        path: the file.
        num_predictions: in it.
        problems: why it would be rejected; empty if it is complete.
    """

    path: Path
    num_predictions: int
    problems: list[SubmissionProblem]


def write_submission(
    evaluation: Path, data: Path | None, year: int, out: Path, name: str, seed: int | None = None
) -> Submission:
    """Write the submission of a year from what was scored, and check its counts; nothing is scored here.

    Args:
        evaluation: folder of an evaluation, such as RUN/evaluation.
        data: folder of the data sets that were scored; predicted sentences are taken from them.
        year: 2023 to 2026.
        out: folder to write into.
        name: of the model; part of the file's name in 2024.
        seed: of the fine-tuned tasks; the first one by default.

    Returns:
        The file, and what keeps it from being complete.

    Raises:
        EvaluationError: no such year, nothing to hand in, or the data is not what was scored.
        MissingData: the data is not there.
        CheckpointError: a file of the evaluation is damaged.
    """
    wanted = year_of(year)
    parts: dict[str, Predictions] = {}
    problems: list[SubmissionProblem] = []
    modes: set[str] = set()
    for part in wanted.parts:
        if isinstance(part, AbsentPart):
            amount = f"{part.num_items:,} items" if part.num_items else "its scores"
            problems.append(
                SubmissionProblem(part.key, f"no task of maskwright scores {part.title}", amount, part.source)
            )
        elif isinstance(part, LabelsPart):
            parts[part.key], found = _labels(part, evaluation, seed)
            problems += found
        else:
            parts[part.key], found, mode = _pairs(part, evaluation, data, year, seed)
            problems += found
            modes |= {mode} if mode else set()
    num_predictions = sum(len(rows) for predictions in parts.values() for rows in predictions.values())
    if not num_predictions:
        raise EvaluationError(
            f"{evaluation} holds nothing that the BabyLM challenge of {year} asks for",
            "scores of tasks such as blimp, blimp_supplement and the suite babylm",
            "evaluate with --tasks blimp,blimp_supplement,babylm",
        )
    if len(modes) > 1:
        problems.append(
            SubmissionProblem("blimp", "parts were scored in different modes", "one mode", "evaluate again with one")
        )
    path = out / _file_name(wanted, name, wanted.modes.get(min(modes, default=""), "mlm"))
    write_bytes_atomically(path, _content(parts, wanted))
    return Submission(path, num_predictions, problems)


def _labels(part: LabelsPart, evaluation: Path, seed: int | None) -> tuple[Predictions, list[SubmissionProblem]]:
    """Return the predictions of fine-tuned tasks, and what is missing."""
    predictions: Predictions = {}
    problems = []
    for name, task in part.tasks.items():
        found = record_and_items(evaluation, task, seed)
        if found is not None:
            predictions[name] = label_predictions(found[1], name, part)
        problems += _count_problem(
            f"{part.key}/{name}",
            len(predictions.get(name, [])),
            part.num_items[name],
            f"evaluate --tasks {task} on the challenge's data (glue_filtered, msgs_filtered)",
        )
    return predictions, problems


def _pairs(
    part: PairsPart, evaluation: Path, data: Path | None, year: int, seed: int | None
) -> tuple[Predictions, list[SubmissionProblem], str | None]:
    """Return the predictions of minimal pairs, what is missing, and the mode they were scored in."""
    wanted = year_of(year)
    found = record_and_items(evaluation, part.task, seed)
    folder = f"{part.task.replace('blimp_', '')}_filtered"
    to_do = (
        f"evaluate --tasks {part.task} on the challenge's data, its folder {folder} alone in --data or chosen with "
        f"--set {part.task}.whereabouts.folders=[{folder}]"
    )
    if found is None:
        amount = sum(count or 0 for count in part.num_items.values())
        expected = f"{amount:,} items" if amount else "its items"
        return {}, [SubmissionProblem(part.key, f"{part.task} was not scored", expected, to_do)], None
    record, items = found
    scored = pair_predictions(items, record, data, wanted)
    predictions = {name: scored[name] for name in part.num_items if name in scored}
    problems = scoring_problems(record, part, year, wanted)
    for name in sorted(set(scored) - set(part.num_items)):
        problems.append(
            SubmissionProblem(f"{part.key}/{name}", f"{len(scored[name])} items", "no such part", "it is left out")
        )
    miscounted = [
        problem
        for name, count in part.num_items.items()
        for problem in _count_problem(f"{part.key}/{name}", len(predictions.get(name, [])), count, to_do)
    ]
    problems += miscounted[:MOST_TOLD]
    if len(miscounted) > MOST_TOLD:
        left = len(miscounted) - MOST_TOLD
        problems.append(SubmissionProblem(part.key, f"{left} more parts have another number of items", "none", to_do))
    return predictions, problems, str(record.settings.get("mode"))


def _count_problem(part: str, got: int, expected: int | None, to_do: str) -> list[SubmissionProblem]:
    if got == expected or (got and expected is None):
        return []
    wanted = "some" if expected is None else f"{expected:,}"
    return [SubmissionProblem(part, f"{got:,} items", wanted, to_do)]


def _file_name(year: ChallengeYear, name: str, backend: str) -> str:
    if year.container == "lines":
        return "all_predictions.json"
    if year.container == "gzip":
        return f"{name}_textonly_predictions.json.gz"
    return f"all_full_preds_and_fast_scores_{backend}.json"


def _content(parts: dict[str, Predictions], year: ChallengeYear) -> bytes:
    """Return the file's bytes; the same predictions give the same bytes."""
    if year.container == "lines":
        lines = [
            {"task": key, "sub_task": name, "predictions": rows}
            for key, predictions in parts.items()
            for name, rows in predictions.items()
        ]
        return "".join(json.dumps(line) + "\n" for line in lines).encode()
    whole: dict[str, Any] = {
        key: {name: {"predictions": rows} for name, rows in predictions.items()} for key, predictions in parts.items()
    }
    text = json.dumps(whole).encode()
    return gzip.compress(text, mtime=0) if year.container == "gzip" else text
