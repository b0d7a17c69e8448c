"""The best step and the end of patience, beside transformers' own."""

from types import SimpleNamespace

import pytest
import torch
from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments

from maskwright.evaluation.fine_tuning.settings import FineTuning
from maskwright.evaluation.fine_tuning.watch import BestStepWatch

SCORES = [0.5, 0.6, 0.6005, 0.599, 0.6008, 0.7, 0.7, 0.7, 0.3, 0.1, 0.9]


def their_stop_and_best(tmp_path, scores: list[float], patience: int, threshold: float) -> tuple[int, int]:
    """Return the steps at which transformers stops (or the last) and that it calls the best."""
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        metric_for_best_model="f1",
        greater_is_better=True,
        eval_strategy="steps",
        save_strategy="steps",
        load_best_model_at_end=True,
        report_to="none",
    )
    callback = EarlyStoppingCallback(patience, threshold)
    state, control = TrainerState(), TrainerControl()
    best = 0
    for step, score in enumerate(scores, start=1):
        callback.on_evaluate(arguments, state, control, metrics={"eval_f1": score})
        if state.best_metric is None or score > state.best_metric:
            state.best_metric, best = score, step
        if control.should_training_stop:
            return step, best
    return len(scores), best


@pytest.mark.parametrize("patience", [1, 2, 3, 10])
@pytest.mark.parametrize("min_improvement", [0.0, 0.001, 0.15])
def test_it_stops_and_chooses_as_transformers_does(tmp_path, patience, min_improvement):
    script = iter(SCORES)
    weight = torch.nn.Parameter(torch.zeros(1))
    model = torch.nn.Module()
    model.weight = weight
    settings = FineTuning(patience=patience, min_improvement=min_improvement, evaluate_every_steps=1)
    watch = BestStepWatch(model, lambda: next(script), settings)
    stop = len(SCORES)
    for step in range(1, len(SCORES) + 1):
        weight.data.fill_(step)
        if watch.wants_to_stop(step, is_epoch_end=False):
            stop = step
            break
    assert (stop, watch.best_step) == their_stop_and_best(tmp_path, SCORES, patience, min_improvement)
    watch.restore_best()
    assert weight.item() == watch.best_step
    assert watch.history == list(enumerate(SCORES[:stop], start=1))


def test_it_looks_after_epochs_or_every_few_steps():
    model = torch.nn.Linear(1, 1)
    for every, expected in ((None, [3, 6]), (2, [2, 4, 6])):
        watch = BestStepWatch(model, lambda: 0.0, FineTuning(evaluate_every_steps=every))
        for step in range(1, 7):
            watch.wants_to_stop(step, is_epoch_end=step % 3 == 0)
        assert [step for step, _ in watch.history] == expected


def test_without_a_score_the_last_weights_stay():
    model = SimpleNamespace(named_parameters=lambda: [])
    watch = BestStepWatch(model, None, FineTuning(patience=1))  # pyright: ignore[reportArgumentType]
    assert not any(watch.wants_to_stop(step, True) for step in range(1, 9))
    assert watch.best_step is None
