"""Scoring models through the command line: what is learned shows, what is missing is told, two models are compared."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import TINY_ENCODER, written

from maskwright.core.records.evaluation import EvaluationRecord, ModelComparisonRecord

NAMES, VERBS = ["Mary", "Peter", "Nobody", "Everybody"], ["sees", "paints", "visits", "forgets"]
ADJECTIVES, NOUNS = ["small", "quiet", "yellow", "ancient"], ["river", "garden", "window", "station"]


def sentence(draw: random.Random) -> str:
    """Return a sentence of a grammar in which every word has its place."""
    pick = draw.choice
    rest = f"the {pick(ADJECTIVES)} {pick(NOUNS)} near the {pick(ADJECTIVES)} {pick(NOUNS)}"
    return f"{pick(NAMES)} {pick(VERBS)} {rest}."


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, maskwright: Callable[..., Any]) -> dict[str, Path]:
    """Two runs on the same text: one that learned its grammar, and one that made a single step."""
    folder = tmp_path_factory.mktemp("grammar")
    draw = random.Random(1)
    documents = [" ".join(sentence(draw) for _ in range(3)) for _ in range(600)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    made = {}
    for name, steps in (("learned", 150), ("fresh", 1)):
        raw = {
            "name": name,
            "data": {"data": str(folder / "text.jsonl"), "held_out_fraction": 0.2},
            "tokenizer": {"vocabulary_size": 120},
            "encoder": {"size": None, "overrides": TINY_ENCODER},
            "budget": {"steps": steps},
            "phases": [{"sequence_length": 32}],
            "batch": {"tokens": 1024, "micro_batch_tokens": 1024},
            "optimizer": {"name": "muon", "learning_rate": 5e-3},
            "engine": {"device": "cpu", "dtype": "float32", "compile": "off"},
        }
        said = maskwright("train", written(folder / f"{name}.yaml", raw), "--run", folder / name)
        assert said.code == 0, said.err
        made[name] = folder / name
    return made


def test_a_trained_model_beats_chance_on_its_own_pairs_and_a_fresh_one_does_not(maskwright, runs):
    settings = ("--tasks", "word_order", "--set", "num_pairs=100")
    said = maskwright("evaluate", runs["learned"], *settings, "--against", runs["fresh"])
    assert said.code == 0, said.err
    records = {name: EvaluationRecord.read(run / "evaluation" / "word_order.json") for name, run in runs.items()}
    assert records["learned"].intervals["accuracy"][0] > 0.6
    low, high = records["fresh"].intervals["accuracy"]
    assert low - 0.05 < 0.5 < high + 0.05
    comparison = ModelComparisonRecord.read(runs["learned"] / "evaluation" / "against" / "fresh.json")
    (row,) = comparison.rows
    assert row.verdict == "learned is better"
    assert row.difference == pytest.approx(records["learned"].scores["accuracy"] - records["fresh"].scores["accuracy"])
    assert "learned is better" in " ".join(said.out.split())
    assert "learned is better" in (runs["learned"] / "report.html").read_text()
    again = maskwright("evaluate", runs["learned"], *settings, "--against", runs["fresh"])
    assert again.err.count("finished before, not done again") == 2


def test_a_model_is_not_better_than_itself(maskwright, runs):
    said = maskwright("evaluate", runs["fresh"], "--tasks", "word_order", "--against", runs["fresh"])
    assert said.code == 0, said.err
    assert "no evidence of a difference" in " ".join(said.out.split())


def test_what_is_missing_is_told_and_the_rest_is_scored(maskwright, runs, tmp_path):
    said = maskwright("evaluate", runs["learned"], "--tasks", "cola,blimp,word_order", "--data", tmp_path)
    assert said.code == 68
    assert "CoLA" in said.err and "BLiMP" in said.err
    assert "word order" in said.out
    assert "Traceback" not in said.err


def test_mistakes_on_the_command_line(maskwright, runs, tmp_path):
    run = runs["fresh"]
    for arguments, code, part in [
        (["--tasks", "blmp"], 78, "did you mean 'blimp'"),
        (["--tasks", "glue", "--set", "training.epoch=3"], 78, "epochs"),
        (["--tasks", "glue", "--set", "trainig.epochs=3"], 78, "training"),
        (["--tasks", "glue", "--preset", "babylm23"], 78, "babylm2023"),
        (["--tasks", "word_order", "--preset", "bert"], 78, "training"),
        (["--tasks", "held_out", "--seeds", 0], 67, "1 or more"),
        (["--tasks", tmp_path / "no.yaml"], 78, "no.yaml"),
        (["--tasks", "word_order", "--against", tmp_path / "nowhere"], 76, "nowhere"),
        (["--tasks", "word_order", "--babylm", 1999], 67, "2023"),
    ]:
        said = maskwright("evaluate", run, *arguments)
        assert said.code == code, (arguments, said.err)
        assert part in said.err, (arguments, said.err)
        assert "Traceback" not in said.err
