"""Randomly initialised models of transformers, from configurations; nothing is downloaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    DebertaConfig,
    DebertaForMaskedLM,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ENDS = {"bos_token_id": 2, "eos_token_id": 3}
ROLES = {"cls_token_id": 2, "sep_token_id": 3, **ENDS}
RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
DEBERTA_V3 = {"position_buckets": 16, "share_att_key": True, "norm_rel_ebd": "layer_norm"}
CLASSES: dict[str, tuple[type[PreTrainedModel], type[PretrainedConfig], dict[str, Any]]] = {
    "bert": (BertForMaskedLM, BertConfig, NO_DROPOUT),
    "modernbert": (ModernBertForMaskedLM, ModernBertConfig, ROLES),
    "electra": (ElectraForMaskedLM, ElectraConfig, NO_DROPOUT | ENDS),
    "albert": (AlbertForMaskedLM, AlbertConfig, NO_DROPOUT | ENDS | {"hidden_act": "gelu"}),
    "deberta": (DebertaForMaskedLM, DebertaConfig, NO_DROPOUT | RELATIVE),
    "deberta_v2": (DebertaV2ForMaskedLM, DebertaV2Config, NO_DROPOUT | RELATIVE | DEBERTA_V3),
}
"""Class, configuration, and what differs from its defaults."""


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    words = {word: index for index, word in enumerate([*SPECIALS, *(f"w{number}" for number in range(95))])}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    roles = ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"]
    return PreTrainedTokenizerFast(tokenizer_object=backend, **dict(zip(roles, SPECIALS, strict=True)))


@pytest.fixture
def their_folder(tmp_path: Path) -> Callable[..., Path]:
    """Save a model of transformers with weights far from its first ones."""

    def save(architecture: str, **options: Any) -> Path:
        shape = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
        shape |= {"intermediate_size": 48, "max_position_embeddings": 300, "pad_token_id": 0}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model_class, config_class, family_options = CLASSES[architecture]
            model = model_class(config_class(**(shape | family_options | options)))
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(tmp_path / "theirs")
        return tmp_path / "theirs"

    return save
