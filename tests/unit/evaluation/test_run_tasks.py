"""From a model and tasks to records on disk: seeds, what is kept, what is missing."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import Field

from maskwright.core.errors import EvaluationError, MissingData
from maskwright.core.randomness import numpy_generator
from maskwright.core.records.evaluation import EvaluationRecord
from maskwright.evaluation.catalogue import NamedTask, find_tasks
from maskwright.evaluation.items import Items
from maskwright.evaluation.run_tasks import FIRST_SEED, evaluate
from maskwright.evaluation.tasks.base import Task, TaskConfig, TaskResult


class Coins(Task):
    """Tosses coins: a task with items whose score depends on the seed."""

    class Config(TaskConfig):
        """Settings."""

        num_tosses: int = Field(default=40, description="how many")

    is_repeated = True
    main_metric = "accuracy"
    num_calls = 0
    interrupted_at: int | None = None

    def data_sha256(self, subject):
        if subject.data is None:
            raise MissingData("coins.txt does not exist", "DATA/ with coins.txt", "get it from the mint")
        return {"coins.txt": "c" * 64}

    def evaluate(self, subject, seed):
        if seed == self.interrupted_at:
            raise KeyboardInterrupt
        type(self).num_calls += 1
        heads = numpy_generator(seed, "coins").integers(0, 2, self.config.num_tosses)
        ids = np.array([f"toss {index}" for index in range(len(heads))])
        items = Items(ids, {"credit": heads}, np.zeros(len(heads), dtype=np.int64))
        return TaskResult(
            scores=self.scores(items), items=items, settings={"best_step": seed}, notes=["Coins have no memory."]
        )

    def scores(self, items):
        return {"accuracy": float(items.columns["credit"].mean())}


@pytest.fixture(autouse=True)
def coins(monkeypatch: pytest.MonkeyPatch) -> type[Coins]:
    """The task as a user's own module has it."""
    monkeypatch.setitem(sys.modules, "my_tasks", SimpleNamespace(Coins=Coins))
    Coins.num_calls = 0
    return Coins


def coin_tasks(**settings: object) -> list[NamedTask]:
    return find_tasks(["my_tasks:Coins"], settings)


def test_every_task_leaves_its_record(model, corpus, tmp_path: Path, make_subject):
    tasks = find_tasks(["held_out"], {"max_tokens": 500, "held_out.num_examples": 2})
    (record,) = evaluate(make_subject(model, corpus), tasks, tmp_path, 5).records
    assert EvaluationRecord.read(tmp_path / "held_out.json") == record
    assert (record.settings["seed"], record.settings["max_tokens"]) == (5, 500)
    assert record.data_sha256["corpus"] == corpus.manifest.content_sha256
    assert 1 <= len(record.examples) <= 2, "five different sentences need not have one of every group"
    assert record.deviations == {}


def test_equal_seeds_give_equal_records(model, corpus, tmp_path: Path, make_subject):
    first, second = (
        evaluate(make_subject(model, corpus), find_tasks(["held_out"], {}), tmp_path / name, 5).records[0]
        for name in ("a", "b")
    )
    without_time = [
        record.model_copy(update={"seconds": 0.0, "seeds": [record.seeds[0].model_copy(update={"seconds": 0.0})]})
        for record in (first, second)
    ]
    assert without_time[0] == without_time[1]


def test_a_repeated_task_has_mean_and_sample_deviation(tmp_path: Path, make_subject):
    (record,) = evaluate(make_subject(data=Path()), coin_tasks(), tmp_path, seed=1, num_seeds=4).records
    scores = [seed.scores["accuracy"] for seed in record.seeds]
    assert [seed.seed for seed in record.seeds] == [12, 13, 14, 15]
    assert [seed.settings["best_step"] for seed in record.seeds] == [12, 13, 14, 15]
    assert record.scores["accuracy"] == pytest.approx(sum(scores) / 4)
    variance = sum((score - record.scores["accuracy"]) ** 2 for score in scores) / 3
    assert record.deviations["accuracy"] == pytest.approx(variance**0.5)
    low, high = record.intervals["accuracy"]
    assert low < scores[0] < high
    assert record.notes == ["Coins have no memory."]


def test_what_is_finished_is_not_done_again(tmp_path: Path, coins, make_subject):
    def run(num_seeds: int, is_fresh: bool = False, sha256: str = "a" * 64, **settings: object) -> EvaluationRecord:
        coins.num_calls = 0
        subject = make_subject(data=Path(), sha256=sha256)
        return evaluate(subject, coin_tasks(**settings), tmp_path, 1, num_seeds, is_fresh).records[0]

    first = run(2)
    assert coins.num_calls == 2
    assert run(2) == first
    assert coins.num_calls == 0
    assert run(3).seeds[:2] == first.seeds
    assert coins.num_calls == 1
    for changes in ({"is_fresh": True}, {"sha256": "b" * 64}, {"num_tosses": 41}):
        run(2, **changes)
        assert coins.num_calls == 2


def test_an_interrupted_evaluation_keeps_its_finished_seeds(tmp_path: Path, coins, monkeypatch, make_subject):
    monkeypatch.setattr(coins, "interrupted_at", FIRST_SEED + 2)
    with pytest.raises(KeyboardInterrupt):
        evaluate(make_subject(data=Path()), coin_tasks(), tmp_path, 1, num_seeds=4)
    assert coins.num_calls == 2
    assert not (tmp_path / "my_tasks.Coins.json").exists()
    monkeypatch.setattr(coins, "interrupted_at", None)
    (record,) = evaluate(make_subject(data=Path()), coin_tasks(), tmp_path, 1, num_seeds=4).records
    assert coins.num_calls == 4
    assert len(record.seeds) == 4


def test_a_damaged_seed_is_done_again(tmp_path: Path, coins, make_subject):
    evaluate(make_subject(data=Path()), coin_tasks(), tmp_path, 1)
    (path,) = (tmp_path / "seeds").glob("*.json")
    path.write_text(path.read_text()[:40])
    evaluate(make_subject(data=Path()), coin_tasks(), tmp_path, 1)
    assert coins.num_calls == 2


def test_killed_between_items_and_their_seed_nothing_looks_altered(tmp_path: Path, monkeypatch, make_subject):
    def run(is_fresh: bool) -> None:
        evaluate(make_subject(data=tmp_path, sha256="a" * 64), coin_tasks(), tmp_path, 1, is_fresh=is_fresh)

    def kill(self: object, path: Path) -> None:
        path.write_text("")
        raise KeyboardInterrupt

    run(is_fresh=False)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Items, "write", kill)
        run(is_fresh=True)
    assert [path.name for path in tmp_path.rglob("*seed-*")] == ["my_tasks.Coins.seed-12.jsonl"]


def test_a_missing_data_set_stops_no_other_task(model, corpus, tmp_path: Path, capsys, make_subject):
    tasks = find_tasks(["my_tasks:Coins", "held_out"], {"held_out.max_tokens": 200})
    outcome = evaluate(make_subject(model, corpus, data=None), tasks, tmp_path, 1)
    assert [record.task for record in outcome.records] == ["held_out"]
    assert "coins.txt does not exist" in str(outcome.missing)
    assert "get it from the mint" in str(outcome.missing)
    assert "left out" in capsys.readouterr().err


def test_a_task_that_needs_a_corpus_says_so(model, tmp_path: Path, make_subject):
    with pytest.raises(EvaluationError, match="--corpus"):
        evaluate(make_subject(model), find_tasks(["held_out"], {}), tmp_path, 0)
