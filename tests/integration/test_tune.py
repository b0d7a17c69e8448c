"""A search for rate and batch: what it may use, what it asks, that it goes on where it was stopped, and what loses."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import TINY_ENCODER, written
from tests.integration.test_bad_input import RECIPE, assert_clear

import maskwright as package
from maskwright.core.records.tuning import TuningRecord
from maskwright.training.engine import decide
from maskwright.training.loop import TrainingLoop
from maskwright.training.watching.held_out_loss import HeldOutLoss

NON_FINITE = 70

SMALLEST = 5_200
"""Steps of the budget that holds five rates: 5 trials of 20 steps and 3 of 40, and 40 steps beyond the edge."""

WITH_BATCHES = 14_400
"""Steps of the budget that holds two batches."""


class Steps:
    """Counts the steps that were made, and can do something before one of them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count, self.before = 0, {}
        original = TrainingLoop._one_step

        def one_step(loop: TrainingLoop, *arguments: Any) -> dict[str, float]:
            if self.count in self.before:
                self.before.pop(self.count)()
            figures = original(loop, *arguments)
            self.count += 1
            return figures

        patch.setattr(TrainingLoop, "_one_step", one_step)
        # Of no use here, and most of the time of such short runs.
        patch.setattr(decide, "matmul_flops_per_second", lambda device, dtype: 1e9)

    before: dict[int, Callable[[], object]]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def toy(folder: Path, text_file: Path, budget_steps: int, **changes: Any) -> Path:
    raw = {
        "name": "toy",
        "data": {"data": str(text_file), "held_out_fraction": 0.1},
        "tokenizer": {"vocabulary_size": 120},
        "encoder": {"size": None, "overrides": TINY_ENCODER},
        "budget": {"steps": budget_steps},
        "phases": [{"sequence_length": 32}],
        "batch": {"tokens": 256, "micro_batch_tokens": 256},
        "optimizer": {"learning_rate": 5e-4},
        "engine": {"device": "cpu", "dtype": "float32", "compile": "off"},
        "checkpoints": {"every_minutes": None},
    }
    return written(folder / "toy.yaml", raw | changes)


@pytest.fixture(scope="module")
def searched(tmp_path_factory, text_file, maskwright) -> Iterator[dict[str, Any]]:
    """A search over five rates and two batches, what it left and what it did."""
    folder = tmp_path_factory.mktemp("searched")
    recipe, asked = toy(folder, text_file, WITH_BATCHES), []
    with pytest.MonkeyPatch.context() as patch:
        steps, original = Steps(patch), HeldOutLoss._batches

        def batches(loss: HeldOutLoss, *arguments: Any) -> Iterator[Any]:
            for batch in original(loss, *arguments):
                asked.append(tuple(batch.input.token_ids_T.tolist()))
                yield batch

        patch.setattr(HeldOutLoss, "_batches", batches)
        said = maskwright("tune", recipe, "--run", folder / "out")
        assert said.code == 0, said.err
        record = TuningRecord.read(folder / "out" / "tuning.json")
        yield {"recipe": recipe, "out": folder / "out", "said": said, "record": record, "steps": steps, "asked": asked}


def test_a_search_keeps_to_its_share(searched):
    record = searched["record"]
    assert record.batches == [128, 256]
    assert record.budget_tokens == 256 * WITH_BATCHES
    assert record.spent_tokens == sum(trial.num_tokens for trial in record.trials) <= 0.05 * record.budget_tokens
    assert searched["steps"].count == sum(trial.num_steps for trial in record.trials)
    assert all(trial.num_steps * trial.batch_tokens == trial.num_tokens for trial in record.trials)
    assert [len({trial.num_tokens for trial in record.rung(rung)}) for rung in range(3)] == [1, 1, 1]


def test_the_better_half_goes_on_and_the_edge_is_passed(searched):
    record = searched["record"]
    first, second, last = (record.rung(rung) for rung in range(3))
    assert {trial.candidate for trial in first} > {
        (rate, batch) for rate in record.learning_rates for batch in record.batches
    }, "the rates of the recipe are far too low: the best of the grid is at its edge"
    assert {trial.candidate for trial in first[:5]} <= {trial.candidate for trial in second}
    assert {trial.candidate for trial in second[:3]} <= {trial.candidate for trial in last}
    assert record.best == last[0]
    assert record.settings["optimizer.learning_rate"] == last[0].learning_rate
    assert record.settings["batch.tokens"] == last[0].batch_tokens


def test_all_trials_are_asked_the_same(searched):
    """Whatever their micro-batches are."""
    record, asked = searched["record"], searched["asked"]
    per_trial = len(asked) // len(record.trials)
    assert per_trial > 1
    assert len(asked) == per_trial * len(record.trials)
    assert len(set(asked)) == per_trial


def test_the_result_is_shown_and_can_be_used(searched, maskwright):
    record, out, said = searched["record"], searched["out"], searched["said"]
    rate = record.settings["optimizer.learning_rate"]
    assert f"--set optimizer.learning_rate={rate}" in said.out
    assert f"optimizer:\n  learning_rate: {rate}" in said.out
    assert "lower bound" in said.out.replace("\n", " ")
    assert "batch 128" in (out / "valley.svg").read_text(encoding="utf-8")
    assert not (out / "trials").exists()
    planned = maskwright(
        "plan", searched["recipe"], *(f"--set={key}={value}" for key, value in record.settings.items())
    )
    assert planned.code == 0, planned.err
    before = searched["steps"].count
    again = maskwright("tune", searched["recipe"], "--run", out)
    assert again.out == said.out
    assert searched["steps"].count == before


def test_stopped_and_killed_it_ends_in_the_same_record(text_file, tmp_path, maskwright, steps):
    recipe = toy(tmp_path, text_file, SMALLEST)

    def asked(folder: str) -> Any:
        return maskwright("tune", recipe, "--run", tmp_path / folder)

    assert asked("whole").code == 0
    undisturbed = TuningRecord.read(tmp_path / "whole" / "tuning.json")
    planned, steps.count = steps.count, 0

    def kill() -> None:
        raise KeyboardInterrupt  # not through the loop's handler: nothing is saved

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    steps.before = {50: interrupt, 66: kill, 85: interrupt}
    stopped = asked("disturbed")
    assert stopped.code == 130
    assert steps.count == 51, "the step was finished and the third trial was saved"
    assert "the same command goes on" in stopped.err.replace("\n", " ")
    assert asked("disturbed").code == 130
    assert steps.count == 66
    assert asked("disturbed").code == 130
    assert steps.count == 86, "asked to stop in the last step of the fourth trial, it does not begin the fifth"
    assert asked("disturbed").code == 0
    assert steps.count == planned + 6, "six steps of the fourth trial were lost"
    assert TuningRecord.read(tmp_path / "disturbed" / "tuning.json") == undisturbed


def test_rates_that_diverge_lose_and_if_all_do_it_is_told(text_file, tmp_path, maskwright, steps):
    rates = {"optimizer": {"learning_rate": 100.0}}
    said = maskwright("tune", toy(tmp_path, text_file, SMALLEST, **rates), "--run", tmp_path / "some")
    assert said.code == 0, said.err
    record = TuningRecord.read(tmp_path / "some" / "tuning.json")
    losses = {trial.learning_rate: trial.held_out_loss for trial in record.rung(0)}
    assert losses[400.0] is None
    assert losses[25.0] is not None
    assert all(losses[trial.learning_rate] is not None for trial in record.rung(1))
    assert "diverged" in said.out
    all_rates = {"optimizer": {"learning_rate": 1e7}}
    said = maskwright("tune", toy(tmp_path, text_file, SMALLEST, **all_rates), "--run", tmp_path / "all")
    assert_clear(said, NON_FINITE, "every trial diverged", "lower optimizer.learning_rate")


def test_what_can_not_be_searched_is_refused(text_file, tmp_path, maskwright, steps):
    out = tmp_path / "out"
    recipe = toy(tmp_path, text_file, SMALLEST)
    too_small = maskwright("tune", recipe, "--run", out, "--set", "budget.steps=1000")
    assert_clear(
        too_small,
        RECIPE,
        "12,800 tokens, too few",
        "5.2 times the budget (1,331,200 tokens, 5,200 steps)",
        "--share 0.26",
    )
    assert_clear(maskwright("tune", recipe, "--run", out, "--share", "5"), RECIPE, "--share 5", "at most 1")
    assert not out.exists()
    assert steps.count == 0
    unlimited = written(tmp_path / "unlimited.yaml", {"name": "unlimited"})
    assert_clear(maskwright("tune", unlimited, "--run", out), RECIPE, "budget: is missing")


def test_a_model_can_be_tuned_on_and_a_folder_holds_one_search(text_file, tmp_path, finished, steps):
    """Rates so low that nothing is learned: every trial has the loss of the weights that it began with."""
    recipe = toy(tmp_path, text_file, SMALLEST, encoder={"size": "base"}, optimizer={"learning_rate": 1e-12})
    out = tmp_path / "out"
    found = package.tune(recipe, run=out, from_model=finished)
    assert found.recipe["encoder"]["overrides"]["hidden_size"] == TINY_ENCODER["hidden_size"]
    losses = [trial.held_out_loss for trial in found.trials]
    begun = float(metrics(finished)[-1]["held_out_loss"])
    assert losses == pytest.approx([begun] * len(losses), abs=0.02)
    with pytest.raises(ValueError, match=r"another search: recipe\.optimizer\.learning_rate"):
        package.tune(recipe, run=out, from_model=finished, set={"optimizer.learning_rate": 1e-3})
