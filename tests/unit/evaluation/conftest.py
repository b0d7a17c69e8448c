"""A tiny corpus and a tiny model for it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from maskwright.core.batches import WORD
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.marks import MarkedTokens
from maskwright.encoders import build_encoder
from maskwright.evaluation.scorer import MaskedLanguageModel
from maskwright.heads.vocabulary import VocabularyHead
from maskwright.tokenization.special_tokens import vocabulary_of
from maskwright.tokenization.train_tokenizer import TokenizerConfig, train_tokenizer

SENTENCES = [
    "The court dismissed the appeal on procedural grounds.",
    "She closed the door and walked slowly down the stairs.",
    "A small brown dog slept under the table all afternoon.",
    "Every morning the baker opened his shop before sunrise.",
    "Nobody knew why the old bridge had been painted green.",
]


class FakeSplit:
    """A `TokenSplit` of documents in memory."""

    def __init__(self, documents: list[np.ndarray]) -> None:
        self.documents = documents
        self.num_documents = len(documents)
        self.document_lengths = np.array([len(document) for document in documents], dtype=np.int64)
        self.first_tokens = np.concatenate([[0], np.cumsum(self.document_lengths)])
        self.is_shared: np.ndarray | None = None

    def gather_tokens(self, document_ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> MarkedTokens:
        pieces = zip(document_ids, starts, lengths, strict=True)
        tokens = np.concatenate([self.documents[document][start : start + size] for document, start, size in pieces])
        return MarkedTokens(tokens, {WORD: np.ones(len(tokens), bool)})


@dataclass
class FakeCorpus:
    """A `Corpus` in memory."""

    folder: Path
    vocabulary: Vocabulary
    tokenizer: PreTrainedTokenizerFast
    splits: dict[str, FakeSplit]
    manifest: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(
            content_sha256="0" * 64,
            shared_runs=None,
            shared_fraction=None,
            splits={"held_out": SimpleNamespace(num_tokens=10, num_text_bytes=43)},
        )
    )

    def split(self, name: str) -> FakeSplit:
        return self.splits[name]

    @property
    def unigram_counts_V(self) -> np.ndarray:
        return np.bincount(np.concatenate(self.splits["train"].documents), minlength=self.vocabulary.size)

    def load_tokenizer(self) -> PreTrainedTokenizerFast:
        return self.tokenizer


@pytest.fixture(scope="session", params=["wordpiece", "bpe", "unigram"])
def any_tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """Tokenizers of several kinds."""
    return train_tokenizer(SENTENCES * 4, TokenizerConfig(kind=request.param, vocabulary_size=400))


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A word-piece tokenizer."""
    return train_tokenizer(SENTENCES * 4, TokenizerConfig(kind="wordpiece", vocabulary_size=300))


@pytest.fixture(scope="session")
def vocabulary(tokenizer: PreTrainedTokenizerFast) -> Vocabulary:
    """Of `tokenizer`."""
    return vocabulary_of(tokenizer)


@pytest.fixture
def corpus(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, vocabulary: Vocabulary) -> FakeCorpus:
    """Documents of one to five sentences."""

    def documents(first: int, count: int) -> FakeSplit:
        generator = np.random.default_rng(first)
        texts = [" ".join(generator.choice(SENTENCES, generator.integers(1, 6))) for _ in range(count)]
        return FakeSplit([np.array(tokenizer.encode(text, add_special_tokens=False)) for text in texts])

    splits = {"train": documents(1, 30), "held_out": documents(2, 12)}
    return FakeCorpus(tmp_path / "corpus", vocabulary, tokenizer, splits)


def tiny_model(tokenizer: PreTrainedTokenizerFast, max_positions: int = 64) -> MaskedLanguageModel:
    """Return a model with two small layers and weights large enough to have opinions."""
    overrides = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "feed_forward_size": 32}
    encoder = build_encoder("modernbert", None, overrides, vocabulary_of(tokenizer), max_positions, seed=1)
    head = VocabularyHead(encoder.config, seed=1)
    with torch.no_grad():
        for parameter in [*encoder.parameters(), *head.parameters()]:
            if parameter.ndim > 1:
                parameter.mul_(8)
    return MaskedLanguageModel(encoder, head, tokenizer)


@pytest.fixture(scope="session")
def make_model() -> Callable[..., MaskedLanguageModel]:
    """Return `tiny_model`."""
    return tiny_model


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast) -> MaskedLanguageModel:
    """A tiny model over `tokenizer`."""
    return tiny_model(tokenizer)


def subject_of(
    model: MaskedLanguageModel | None = None, corpus: object = None, data: Path | None = None, sha256: str = "a" * 64
) -> SimpleNamespace:
    """Return what stands for a `EvaluatedModel` whose parts are in memory."""
    known = {"name": "model", "sha256": sha256, "device": torch.device("cpu"), "reader": None}
    return SimpleNamespace(**known, corpus=corpus, data=data, masked_language_model=model)


@pytest.fixture(scope="session")
def make_subject() -> Callable[..., SimpleNamespace]:
    """Return `subject_of`."""
    return subject_of
