"""Small models with weights far from their first ones, and a tokenizer that fits them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders import build_encoder
from maskwright.encoders.encoder import Encoder
from maskwright.heads.vocabulary import VocabularyHead

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SMALL = {"num_layers": 4, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 48}
MakeModel = Callable[..., tuple[Encoder, VocabularyHead]]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    words = {word: index for index, word in enumerate([*SPECIALS, *(f"w{number}" for number in range(95))])}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    roles = ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"]
    return PreTrainedTokenizerFast(tokenizer_object=backend, **dict(zip(roles, SPECIALS, strict=True)))


@pytest.fixture
def make_model() -> MakeModel:
    vocabulary = Vocabulary(
        100, pad_id=0, cls_id=2, sep_id=3, mask_id=4, unk_id=1, special_ids=(0, 1, 2, 3, 4), sha256="0"
    )

    def make(family: str, **overrides: Any) -> tuple[Encoder, VocabularyHead]:
        encoder = build_encoder(family, None, SMALL | overrides, vocabulary, 350, seed=0)
        head = VocabularyHead(encoder.config)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in [*encoder.parameters(), *head.parameters()]:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        return encoder, head

    return make
