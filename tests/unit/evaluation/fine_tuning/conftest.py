"""A tiny pre-trained encoder to fine-tune, and questions that it can learn to answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from maskwright.encoders import build_encoder
from maskwright.encoders.encoder import Encoder
from maskwright.evaluation.datasets.labelled import LabelledTexts, Splits
from maskwright.tokenization.special_tokens import vocabulary_of

NOUNS = ["dog", "door", "bridge", "shop", "table", "baker", "stairs", "afternoon"]


class TinySubject:
    """A `EvaluatedModel` in memory: `new_encoder` always gives the same weights."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, family: str = "bert", max_positions: int = 64) -> None:
        self.tokenizer = tokenizer
        self.family = family
        self.limit_tokens = max_positions
        self.width = 32
        self.device = torch.device("cpu")
        self.data: Path | None = None

    def new_encoder(self, dropout: float | None = None) -> Encoder:
        overrides: dict[str, Any] = {
            "hidden_size": self.width,
            "num_layers": 2,
            "num_heads": 2,
            "feed_forward_size": 48,
        }
        if dropout:
            names = {"bert": ["hidden_dropout"], "modernbert": ["embedding_dropout", "feed_forward_dropout"]}
            overrides |= dict.fromkeys([*names[self.family], "attention_dropout"], dropout)
        vocabulary = vocabulary_of(self.tokenizer)
        return build_encoder(self.family, None, overrides, vocabulary, self.limit_tokens, seed=1)


@pytest.fixture
def subject(tokenizer: PreTrainedTokenizerFast) -> TinySubject:
    return TinySubject(tokenizer)


@pytest.fixture
def make_subject(tokenizer: PreTrainedTokenizerFast) -> Callable[..., TinySubject]:
    return lambda **options: TinySubject(tokenizer, **options)


def rows(count: int, seed: int, origin: str) -> LabelledTexts:
    """Return sentences labelled by whether the first noun is "dog"."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 2, count).tolist()
    texts = []
    for target in targets:
        others = generator.choice(NOUNS[1:], generator.integers(2, 6)).tolist()
        texts.append((f"the {'dog' if target else others[0]} and the {' '.join(others)}",))
    return LabelledTexts([f"{origin}{index}" for index in range(count)], texts, targets, origin)


@pytest.fixture
def splits() -> Splits:
    """Sentences of two classes that can be told apart."""
    return Splits(rows(160, 1, "train"), rows(60, 2, "test"), None, ["no", "yes"])


@pytest.fixture
def make_rows() -> Callable[[int, int, str], LabelledTexts]:
    return rows
