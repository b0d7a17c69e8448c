"""What many tests share: a small real text, its prepared corpus, a tiny encoder, a tiny recipe."""

import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
# Models in tests are so small that threads would wait for each other more than they work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import contextlib
import io
import json
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskwright.batching.row_stream import RowStream
from maskwright.cli.main import STOPPING, main
from maskwright.core.batches import PackedBatch
from maskwright.core.integrity import KEY
from maskwright.core.ranks import Ranks
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.config import DataConfig
from maskwright.corpus.corpus import Corpus, open_corpus
from maskwright.corpus.prepare import prepare
from maskwright.encoders import build_encoder
from maskwright.encoders.encoder import Encoder
from maskwright.heads.vocabulary import VocabularyHead
from maskwright.masking.phase_start import PhaseStart
from maskwright.models.trained import TrainedModel
from maskwright.tokenization.train_tokenizer import TokenizerConfig
from maskwright.training.phases import read_model


def raw_record(path: Path) -> dict[str, Any]:
    """Return the values of a record without its seal, to be written by hand."""
    return {key: value for key, value in json.loads(path.read_text(encoding="utf-8")).items() if key != KEY}


TINY_ENCODER = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 48}
"""An encoder small enough to train within a test."""

WORDS = """
the court heard appeal judge ruled against company which had paid nothing for years of work done by many people who
lived near river where boats carried grain coal timber to towns below mountains in winter when snow fell
""".split()  # noqa: SIM905 - a list of quoted words is harder to read


def sentences(count: int, seed: int) -> list[str]:
    """Return documents of 5 to 60 words, some of two lines."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(5, 60, count)
    return [" ".join(generator.choice(WORDS, length)).capitalize() + "." for length in lengths]


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSONL file of 240 short documents."""
    path = tmp_path_factory.mktemp("text") / "text.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in sentences(240, 0)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def corpus(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The prepared corpus of `text_file`, with a wordpiece tokenizer of 120 tokens."""
    folder = tmp_path_factory.mktemp("corpora") / "corpus"
    prepare(
        DataConfig(data=str(text_file), held_out_fraction=0.1), TokenizerConfig(vocabulary_size=120), folder, seed=1
    )
    return open_corpus(folder, verify=True)


@pytest.fixture(scope="session")
def vocabulary(corpus: Corpus) -> Vocabulary:
    return corpus.vocabulary


@pytest.fixture(scope="session")
def batch(corpus: Corpus) -> PackedBatch:
    """Eight rows of 32 real tokens."""
    return RowStream(corpus.split("train"), corpus.vocabulary, 32, seed=3).batch(0, 8)


@pytest.fixture
def encoder(vocabulary: Vocabulary) -> Encoder:
    return build_encoder("modernbert", None, TINY_ENCODER, vocabulary, max_positions=64, seed=5)


@pytest.fixture
def vocabulary_head(encoder: Encoder) -> VocabularyHead:
    return VocabularyHead(encoder.config, seed=5)


def phase_start_of(corpus: Corpus, folder: Path, num_steps: int = 1000, ranks: Ranks | None = None) -> PhaseStart:
    """Return what an objective is given before the first of some steps, on sequences of 32 tokens."""
    return PhaseStart(
        folder=folder,
        corpus=corpus,
        sequence_length=32,
        num_steps=num_steps,
        seed=1,
        device=torch.device("cpu"),
        dtype=torch.float32,
        micro_batch_tokens=1024,
        was_begun=False,
        ranks=ranks or Ranks(),
        read_model=read_model,
        model_before=lambda: pytest.fail("nothing came before"),
    )


@pytest.fixture
def phase_start(corpus: Corpus, encoder: Encoder, vocabulary_head: VocabularyHead, tmp_path: Path) -> PhaseStart:
    """What an objective is given before the first of a thousand steps; the phase before left the tests' model."""
    before = TrainedModel(encoder, vocabulary_head, corpus.vocabulary, "")
    return replace(phase_start_of(corpus, tmp_path / "phase"), model_before=lambda: before)


@pytest.fixture
def raw_recipe(text_file: Path) -> dict[str, Any]:
    """A recipe of 12 steps in two phases, with two micro-batches a step, as it would stand in YAML."""
    return {
        "name": "test",
        "data": {"data": str(text_file), "held_out_fraction": 0.1},
        "tokenizer": {"vocabulary_size": 120},
        "encoder": {"family": "modernbert", "size": None, "overrides": dict(TINY_ENCODER)},
        "budget": {"steps": 12},
        "phases": [
            {"objective": {"name": "mlm"}, "share": 2, "sequence_length": 16},
            {"objective": {"name": "mlm", "strategy": "whole_word"}, "share": 1, "sequence_length": 32},
        ],
        "batch": {"tokens": 512, "micro_batch_tokens": 256},
        "optimizer": {"learning_rate": 1e-3},
        "engine": {"device": "cpu", "dtype": "float32", "compile": "off"},
        "checkpoints": {"every_steps": 3, "every_minutes": None},
        "probes": {"every_steps": 4, "tokens": 256, "max_share": None},
    }


@dataclass(frozen=True)
class Said:
    """What a command left in the terminal."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def maskwright() -> Callable[..., Said]:
    """Return a function that runs the command line in this process."""

    def run(*arguments: object) -> Said:
        out, err = io.StringIO(), io.StringIO()
        before = sys.argv, list(sys.path), {number: signal.getsignal(number) for number in STOPPING}
        sys.argv = ["maskwright", *map(str, arguments)]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
                main()
        finally:
            sys.argv, sys.path[:] = before[:2]
            for number, handler in before[2].items():
                signal.signal(number, handler)
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may reach beyond this machine."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test wants to connect to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tests are small: threads would only get into each other's way."""
    torch.set_num_threads(1)
