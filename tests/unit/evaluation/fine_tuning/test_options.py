"""Every option of a fine-tuning does something: another value changes weights, answers or what is reported."""

import json
from typing import Any

import pytest
from tests.unit.evaluation.fine_tuning.test_experiment import FAST, experiment

from maskwright.evaluation.fine_tuning.settings import FineTuning

CHOOSING: dict[str, Any] = {"selection": "train_part", "evaluate_every_steps": 1, "epochs": 2}
LORA: dict[str, Any] = {"adapt": "lora"}

CHANGES: dict[str, tuple[dict[str, Any], Any]] = {
    "preset": ({}, "babylm2023"),
    "learning_rate": ({}, 1e-3),
    "batch_size": ({}, 8),
    "epochs": ({}, 2),
    "max_length": ({}, 8),
    "warmup_fraction": ({}, 0.5),
    "schedule": ({}, "constant"),
    "weight_decay": ({}, 0.5),
    "clip_norm": ({}, 0.01),
    "dropout": ({}, 0.3),
    "pooling": ({}, "mean"),
    "precision": ({}, "bfloat16"),
    "layer_decay": ({}, 0.5),
    "adapt": ({}, "bitfit"),
    "lora.rank": (LORA, 2),
    "lora.alpha": (LORA, 4),
    "lora.dropout": (LORA, 0.5),
    "selection": ({}, "train_part"),
    "select_by": (CHOOSING, "f1_or_accuracy"),
    "held_back_fraction": (CHOOSING, 0.3),
    "evaluate_every_steps": (CHOOSING, 2),
    "patience": (CHOOSING, 1),
    "min_improvement": (CHOOSING | {"epochs": 4, "patience": 5}, 0.9),
    "search.learning_rate": ({}, [1e-3, 3e-3]),
    "search.rate_factors": ({}, [0.3, 1.0]),
    "search.batch_size": ({}, [8, 16]),
    "search.epochs": ({}, [1, 2]),
    "seed_changes": ({}, "head"),
}
"""By option: the settings under which it is changed, and the value that it is changed to."""

WITHOUT_A_TRACE = {"tokens_per_pass"}
"""They change memory alone (test_loop.py)."""


def names(options: type[Any], prefix: str = "") -> set[str]:
    """Return every field of a section, those of inner sections with a dot."""
    found: set[str] = set()
    for name, field in options.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        found |= {f"{prefix}{name}"} if inner is None else names(field.annotation, f"{prefix}{name}.")
    return found


def outcome(subject, splits, settings: dict[str, Any]) -> str:
    items, facts = experiment(subject, splits, seed=3, **settings).run()
    known = {key: value for key, value in facts.items() if "second" not in key}
    answers = {name: values.tolist() for name, values in items.columns.items()}
    return json.dumps([known, answers], default=str)


def test_every_option_is_tried():
    assert names(FineTuning) == CHANGES.keys() | WITHOUT_A_TRACE


@pytest.mark.parametrize("name", CHANGES)
def test_every_option_does_something(name, subject, splits):
    context, value = CHANGES[name]
    section, _, field = name.rpartition(".")
    change = {section: {field: value}} if section else {field: value}
    before = {"epochs": 1, "dropout": 0.1, **context}
    if name == "preset":  # it gives way to what is said
        before |= dict.fromkeys(FAST.keys() - {"precision"})
        before = {key: item for key, item in before.items() if item is not None}
    assert outcome(subject, splits, before | change) != outcome(subject, splits, before)
