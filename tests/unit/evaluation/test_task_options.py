"""Every option of a task without training does something; those of fine-tuned tasks are in fine_tuning/test_options.py.

What a task is called and where its files lie are left out: titles, citations, folders.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.evaluation.fine_tuning.test_options import names

from maskwright.core.discovery import load_plug_in
from maskwright.evaluation.tasks.base import Task
from maskwright.tokenization.train_tokenizer import TokenizerConfig, train_tokenizer

DESCRIBING = {"title", "citation"}
LOCATING = {f"whereabouts.{name}" for name in ("folders", "hub", "source", "folder")}

CHANGES: dict[str, dict[str, Any]] = {
    "held_out": {"mask_rate": 0.4, "max_tokens": 60, "sequence_length": 16, "num_examples": 2},
    "word_order": {"num_pairs": 4, "mode": "mntp"},
    "minimal_pairs": {
        "files": ["one.jsonl"],
        "fields.good": "sentence_bad",
        "fields.bad": "sentence_good",
        "fields.group": "field",
        "group_names": {"syntax": "grammar"},
        "mode": "mntp",
        "ties": "correct",
        "leading_space": True,
        "screen": True,
        "max_pairs": 2,
    },
}
"""By kind of task and option: the value that it is changed to."""

PAIRS = [
    ("The court dismissed the appeal.", "The court dismissed appeal the."),
    ("She closed the door.", "She closed the stairs door."),
    ("A small brown dog slept.", "A small brown dog slept."),
]


@pytest.fixture
def outcome(corpus, make_model, make_subject, text_of_pairs):
    """Return a function from a kind of task and its settings to what it finds."""
    lines, folder = text_of_pairs
    tokenizer = train_tokenizer(lines, TokenizerConfig(kind="bpe", vocabulary_size=400))

    def evaluated(kind: str, settings: dict[str, Any]) -> str:
        plug_in = load_plug_in("maskwright.evaluation.tasks", kind, Task)
        task = plug_in(plug_in.Config.model_validate(settings))
        model = make_model(tokenizer if kind == "minimal_pairs" else corpus.tokenizer)
        result = task.evaluate(make_subject(model, corpus, folder), seed=1)
        items = {} if result.items is None else {name: each.tolist() for name, each in result.items.columns.items()}
        known = result.model_dump(exclude={"items"})
        known["settings"] = {name: value for name, value in known["settings"].items() if "second" not in name}
        return json.dumps([known, items], default=str)

    return evaluated


@pytest.fixture
def text_of_pairs(tmp_path: Path) -> tuple[list[str], Path]:
    """Write two files of pairs, and return their sentences and folder."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    for name in ("one", "two"):
        rows = [{"sentence_good": good, "sentence_bad": bad, "field": "syntax"} for good, bad in PAIRS]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return [sentence for pair in PAIRS for sentence in pair] * 4, folder


@pytest.mark.parametrize("kind", CHANGES)
def test_every_option_is_tried(kind):
    options = load_plug_in("maskwright.evaluation.tasks", kind, Task).Config
    assert names(options) - DESCRIBING - LOCATING == CHANGES[kind].keys()


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, changes in CHANGES.items() for name in changes])
def test_every_option_does_something(kind, name, outcome):
    section, _, field = name.rpartition(".")
    value = CHANGES[kind][name]
    change = {section: {field: value}} if section else {field: value}
    context = {"fields": {"group": "field"}} if name == "group_names" else {}
    assert outcome(kind, context | change) != outcome(kind, context)
