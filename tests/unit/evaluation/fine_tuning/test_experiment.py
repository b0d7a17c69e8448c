"""One fine-tuning from data to scores: it learns, it repeats itself, and it does not look where it must not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from maskwright.core.errors import EvaluationError
from maskwright.evaluation.catalogue import build_task
from maskwright.evaluation.datasets.labelled import Splits
from maskwright.evaluation.fine_tuning.experiment import Experiment, hold_back
from maskwright.evaluation.fine_tuning.task import FineTunedTask

FAST = {"learning_rate": 3e-3, "epochs": 4, "batch_size": 16, "precision": "float32", "dropout": 0.0}


def task_of(kind: str = "classification", metrics: tuple[str, ...] = (), **training) -> FineTunedTask:
    settings = {"data": {"train": "a.tsv", "test": "b.tsv"}, "metrics": list(metrics), "training": FAST | training}
    task = build_task(kind, settings)
    assert isinstance(task, FineTunedTask)
    return task


def experiment(subject, splits, seed: int = 12, **training) -> Experiment:
    return Experiment(task_of(**training), subject, splits, seed)


def final_weights(one: Experiment) -> torch.Tensor:
    """Fine-tune as `run` does and return all weights."""
    chosen = []
    fit = one.fit

    def remembered(*arguments):
        chosen.append(fit(*arguments))
        return chosen[-1]

    one.fit = remembered  # pyright: ignore[reportAttributeAccessIssue]
    one.run()
    return torch.cat([value.detach().flatten() for value in chosen[-1].model.parameters()])


def with_targets(splits: Splits, targets: list[int]) -> Splits:
    return replace(splits, test=replace(splits.test, targets=targets))


def accuracy(one: Experiment) -> float:
    items, _ = one.run()
    return one.task.scores(items)["accuracy"]


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_what_can_be_learned_is_learned(make_subject, splits, family):
    assert accuracy(experiment(make_subject(family=family), splits, dropout=0.1)) > 0.9


def test_labels_without_meaning_are_not_learned(subject, splits):
    shuffled = np.random.default_rng(1).permutation(splits.train.targets).tolist()
    assert accuracy(experiment(subject, replace(splits, train=replace(splits.train, targets=shuffled)))) < 0.75


def test_lora_learns_it_too_and_leaves_the_pre_trained_weights_alone(subject, splits):
    one = experiment(subject, splits, adapt="lora", learning_rate=1e-2, epochs=8)
    fitted = one.fit(one.settings, splits.train, None)
    questions = one.questions(splits.test, "reported")
    items = one.task.items(questions, one._answers(fitted.model, questions), splits.test, splits)
    assert one.task.scores(items)["accuracy"] > 0.9
    trained = {name.replace(".base_layer", ""): value for name, value in fitted.model.encoder.named_parameters()}
    for name, value in subject.new_encoder().named_parameters():
        assert torch.equal(trained[name], value), name


def test_bitfit_changes_biases_and_nothing_else(subject, splits):
    one = experiment(subject, splits, adapt="bitfit", epochs=1)
    trained = dict(one.fit(one.settings, splits.train, None).model.encoder.named_parameters())
    for name, value in subject.new_encoder().named_parameters():
        is_changed = not torch.equal(trained[name], value)
        assert is_changed == name.endswith("bias"), name


def test_equal_runs_are_bit_equal_and_seeds_differ(subject, splits):
    first, again, other = (
        final_weights(experiment(subject, splits, seed, dropout=0.1, epochs=1)) for seed in (12, 12, 13)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_seeds_may_change_the_head_only(subject, splits):
    twelve, thirteen = (experiment(subject, splits, seed, seed_changes="head", dropout=0.1) for seed in (12, 13))
    assert twelve.course_seed == thirteen.course_seed
    heads = [one.new_model(one.settings).head.state_dict()["out.weight"] for one in (twelve, thirteen)]
    assert not torch.equal(*heads)
    assert experiment(subject, splits, 13).course_seed == 13


@pytest.mark.parametrize(
    "training",
    [
        {"selection": "none"},
        {"selection": "train_part", "evaluate_every_steps": 2},
        {"search": {"learning_rate": [1e-4, 3e-3]}},
    ],
)
def test_reported_labels_do_not_reach_the_weights(subject, splits, training):
    flipped = with_targets(splits, [1 - target for target in splits.test.targets])
    weights = [final_weights(experiment(subject, data, **training)) for data in (splits, flipped)]
    assert torch.equal(*weights)


def test_reported_labels_decide_where_that_is_asked_for_and_a_note_says_so(subject, splits):
    flipped = with_targets(splits, [1 - target for target in splits.test.targets])
    asked = {"selection": "reported", "evaluate_every_steps": 2}
    assert not torch.equal(*(final_weights(experiment(subject, data, **asked)) for data in (splits, flipped)))
    one = experiment(subject, splits, **({"preset": "babylm2023"} | asked))
    one.run()
    assert one.notes == [
        "The best step was chosen on the reported split, as the preset babylm2023 asks; scores are optimistic."
    ]


def test_the_search_takes_the_best_combination_and_says_so(subject, splits):
    one = experiment(subject, splits, search={"learning_rate": [1e-6, 3e-3], "epochs": [1, 4]})
    _, facts = one.run()
    assert (facts["learning_rate"], facts["epochs"]) == (3e-3, 4)
    assert len(facts["tried"]) == 4
    assert facts["num_train_examples"] == len(splits.train)
    assert one.notes == ["Hyper-parameters were chosen from 4 combinations on 16 held-back examples."]


def test_a_validation_split_is_used_instead_of_a_part_of_the_training_data(subject, splits, make_rows):
    with_validation = replace(splits, validation=make_rows(20, 5, "validation"))
    _, facts = experiment(subject, with_validation, selection="train_part", epochs=1).run()
    assert facts["num_train_examples"] == len(splits.train)
    _, facts = experiment(subject, splits, selection="train_part", epochs=1).run()
    assert facts["num_train_examples"] == len(splits.train) * 0.9


def test_a_run_too_short_to_be_looked_at_takes_the_last_step_and_says_so(subject, splits):
    one = experiment(subject, splits, preset="babylm2023", epochs=1)
    _, facts = one.run()
    assert "best_step" not in facts
    assert one.notes == ["Training ended before its first look at a score (every 200 steps); the last step counts."]


def test_choices_of_one_question_are_held_back_together(make_rows):
    rows = make_rows(40, 1, "train")
    rows = replace(rows, question_ids=[str(row // 2) for row in range(40)])
    kept, held_back = hold_back(rows, 0.2, seed=3)
    assert (len(kept), len(held_back)) == (32, 8)
    assert not set(kept.question_ids) & set(held_back.question_ids)


def test_too_little_to_hold_back_is_refused(make_rows):
    with pytest.raises(EvaluationError, match="can't be held back"):
        hold_back(make_rows(1, 1, "train"), 0.1, seed=3)


def test_long_texts_are_counted_and_the_models_limit_is_told(make_subject, splits):
    one = experiment(make_subject(max_positions=8), splits, epochs=1)
    _, facts = one.run()
    assert one.notes[0].endswith(
        "of 160 texts of the training split were longer than 8 tokens, the model's limit, and were cut."
    )
    assert facts["num_cut_train_sequences"] > 0
    assert facts["used_max_length"] == 8


def test_a_learning_rate_that_explodes_is_an_error(subject, splits):
    with pytest.raises(EvaluationError, match="not finite"):
        experiment(subject, splits, learning_rate=1e30, clip_norm=0, epochs=2).run()
