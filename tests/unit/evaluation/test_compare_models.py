"""Two models side by side, from what their evaluations left on disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from maskwright.core.errors import EvaluationError
from maskwright.core.randomness import numpy_generator
from maskwright.core.records.evaluation import EvaluationRecord, ModelComparisonRecord, SeedRecord
from maskwright.evaluation.catalogue import NamedTask
from maskwright.evaluation.compare_models import ScoredModel, compare
from maskwright.evaluation.items import Items
from maskwright.evaluation.run_tasks import EvaluationFolder
from maskwright.evaluation.tasks.base import Task, TaskConfig


class Quiz(Task):
    """A task whose items are right or wrong."""

    is_repeated = True
    main_metric = "accuracy"

    def data_sha256(self, subject):
        return {}

    def evaluate(self, subject, seed):
        raise NotImplementedError

    def scores(self, items):
        return {"accuracy": float(items.columns["credit"].mean())}


def quiz(name: str) -> NamedTask:
    return NamedTask(name, "quiz", Quiz(TaskConfig(title=name.upper())))


@pytest.fixture
def scored(tmp_path: Path) -> Callable[..., ScoredModel]:
    """Return a function that writes what an evaluation leaves: skill by task -> a model that was scored."""

    def write(model: str, skills: dict[str, float], seeds: int = 4, num_items: int = 400, **changes) -> ScoredModel:
        folder = tmp_path / model.replace("/", "-")
        places = EvaluationFolder(folder)
        for task, skill in skills.items():
            runs = {}
            for seed in range(12, 12 + seeds):
                draws = numpy_generator(seed, f"{task} {model}")
                credit = (draws.random(num_items) < skill + 0.01 * draws.normal()).astype(np.int64)
                ids = np.array([f"q{index}" for index in range(num_items)])
                runs[seed] = Items(ids, {"credit": credit}, np.zeros(num_items, dtype=np.int64))
                runs[seed].write(places.items(task, seed))
            scores = [run.columns["credit"].mean() for run in runs.values()]
            record = EvaluationRecord(
                **{
                    "task": task,
                    "model": model,
                    "model_sha256": "0" * 64,
                    "settings": {},
                    "main_metric": "accuracy",
                    "scores": {"accuracy": float(np.mean(scores))},
                    "deviations": {"accuracy": float(np.std(scores, ddof=1))} if seeds > 1 else {},
                    "seeds": [
                        SeedRecord(seed=seed, scores={"accuracy": float(score)}, seconds=1)
                        for seed, score in zip(runs, scores, strict=True)
                    ],
                    "environment": {},
                    "seconds": 1,
                    **changes,
                }
            )
            record.write(places.record(task))
        return ScoredModel(model, folder)

    return write


def test_a_difference_is_found_and_chance_is_not(scored: Callable[..., ScoredModel]):
    ours = scored("ours", {"rte": 0.8, "cb": 0.6})
    other = scored("lab/other", {"rte": 0.6, "cb": 0.6})
    record = compare([quiz("rte"), quiz("cb")], ours, other, seed=1)
    assert ModelComparisonRecord.read(ours.folder / "against" / "lab--other.json") == record
    better, equal = record.rows
    assert better.verdict == "ours is better"
    assert equal.verdict == "no evidence of a difference"
    assert better.difference == pytest.approx(better.model_mean - better.other_mean)
    assert better.interval[0] > 0 > equal.interval[0]
    assert (better.num_items, better.num_seeds) == (400, 4)
    assert better.p_corrected == pytest.approx(2 * max(better.p_items, better.p_seeds or 0))
    assert "Holm's correction for 2 comparisons" in record.notes[0]
    reverse = compare([quiz("rte")], other, ours, seed=1).rows[0]
    assert reverse.verdict == "ours is better"
    assert reverse.difference == -better.difference


def test_one_seed_is_judged_over_items_and_said_to_be(scored: Callable[..., ScoredModel]):
    record = compare([quiz("rte")], scored("a", {"rte": 0.8}, 1), scored("b", {"rte": 0.6}, 1), seed=1)
    assert record.rows[0].p_seeds is None
    assert record.rows[0].model_deviation is None
    assert "silent on how fine-tuning with other seeds would end: RTE" in record.notes[-1]


def test_of_errors_the_lower_is_better(scored: Callable[..., ScoredModel], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("maskwright.evaluation.compare_models.LOWER_IS_BETTER", {"accuracy"})
    row = compare([quiz("rte")], scored("a", {"rte": 0.9}), scored("b", {"rte": 0.2}), seed=1).rows[0]
    assert row.verdict == "b is better"


def test_equal_models_are_equal(scored: Callable[..., ScoredModel]):
    a = scored("a", {"rte": 0.7})
    row = compare([quiz("rte")], a, a, seed=1).rows[0]
    assert (row.difference, row.p_corrected, row.verdict) == (0, 1, "no evidence of a difference")


def test_what_only_one_was_scored_by_is_left_out_and_said(scored: Callable[..., ScoredModel]):
    ours, other = scored("a", {"rte": 0.7, "cb": 0.7}), scored("b", {"rte": 0.7})
    record = compare([quiz("rte"), quiz("cb")], ours, other, seed=1)
    assert [row.task for row in record.rows] == ["rte"]
    assert "CB is left out: b was not scored by it." in record.notes
    with pytest.raises(EvaluationError, match="share no scores to compare: CB is left out"):
        compare([quiz("cb")], ours, other, seed=1)


def test_other_items_and_other_data_are_refused(scored: Callable[..., ScoredModel]):
    ours = scored("a", {"rte": 0.7})
    with pytest.raises(EvaluationError, match=r"RTE: item q\d+ was scored by one and not by the other"):
        compare([quiz("rte")], ours, scored("b", {"rte": 0.7}, num_items=399), seed=1)
    with pytest.raises(EvaluationError, match="RTE: a and c were scored on different data"):
        compare([quiz("rte")], ours, scored("c", {"rte": 0.7}, data_sha256={"dev.tsv": "1"}), seed=1)


def test_many_rows_get_enough_resamples_to_survive_the_correction(scored: Callable[..., ScoredModel]):
    names = [f"task{number}" for number in range(26)]
    ours = scored("a", dict.fromkeys(names, 0.9), seeds=1, num_items=60)
    other = scored("b", dict.fromkeys(names, 0.2), seeds=1, num_items=60)
    record = compare([quiz(name) for name in names], ours, other, seed=1)
    assert all(row.verdict == "a is better" for row in record.rows)
