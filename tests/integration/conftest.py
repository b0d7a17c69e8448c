"""A finished run, made once through the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def recipe(tmp_path: Path, raw_recipe: dict[str, Any]) -> Path:
    """`raw_recipe` as a file."""
    return written(tmp_path / "recipe.yaml", raw_recipe)


def written(path: Path, raw: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, text_file: Path, maskwright: Callable[..., Any]) -> Path:
    """A run of 12 steps with model, scores and report; its corpus lies beside it. Not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    raw = {
        "name": "finished",
        "data": {"data": str(text_file), "held_out_fraction": 0.1},
        "tokenizer": {"vocabulary_size": 120},
        "encoder": {"size": None, "overrides": TINY_ENCODER},
        "budget": {"steps": 12},
        "phases": [{"sequence_length": 32}],
        "batch": {"tokens": 512, "micro_batch_tokens": 256},
        "engine": {"device": "cpu", "dtype": "float32", "compile": "off"},
        "checkpoints": {"every_steps": 3, "every_minutes": None},
        "probes": {"every_steps": 4, "tokens": 256, "max_share": None},
    }
    said = maskwright("train", written(folder / "recipe.yaml", raw), "--run", folder / "run")
    assert said.code == 0, said.err
    return folder / "run"


TINY_ENCODER = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 48}
