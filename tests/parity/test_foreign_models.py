"""Architectures that no family of ours has give, behind our interface, what their own classes give."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from packaging.version import Version
from torch import Tensor
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel

from maskwright.batching.pack import pack_sequences, stack_sequences
from maskwright.core.batches import PackedBatch
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders.masked_architectures import position_limit
from maskwright.export.foreign import ForeignModel, import_foreign

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"pad_token_id": 1, "type_vocab_size": 1},
    "xlm-roberta": {"pad_token_id": 1},
    "distilbert": {"dim": 32, "hidden_dim": 48},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 16},
    "deberta-v2": {
        **{"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16},
        **{"position_biased_input": False, "share_att_key": True, "norm_rel_ebd": "layer_norm"},
    },
    "mpnet": {"pad_token_id": 1},
    "modernbert": {"local_attention": 8, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
}
LENGTHS = [5, 30, 9, 38]
SaveTheirs = Callable[..., Path]


@pytest.fixture
def save_theirs(tmp_path: Path) -> SaveTheirs:
    """Return a function that saves a small model with weights far from its first ones."""

    def save(model_type: str, **options: Any) -> Path:
        shape = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        shape |= {"intermediate_size": 48, "max_position_embeddings": 66, "pad_token_id": 0}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            config = AutoConfig.for_model(model_type, **(shape | ARCHITECTURES[model_type] | options))
            model = AutoModelForMaskedLM.from_config(config)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(tmp_path / "theirs")
        return tmp_path / "theirs"

    return save


def documents(pad_id: int) -> tuple[list[np.ndarray], Vocabulary]:
    """Return random documents, none of whose tokens is special."""
    generator = np.random.default_rng(0)
    vocabulary = Vocabulary(100, pad_id, cls_id=2, sep_id=3, mask_id=4, unk_id=None, special_ids=(), sha256="0")
    return [generator.integers(5, 100, length) for length in LENGTHS], vocabulary


def our_states(ours: ForeignModel, batch: PackedBatch) -> Tensor:
    """Return the hidden states of the real tokens, document by document."""
    x_TD = ours.encoder(batch.input)
    sequence_T = batch.document_ids_S[batch.layout.sequence_index_T.long()]
    return torch.cat([x_TD[sequence_T == document] for document in range(len(LENGTHS))])


def one_by_one(theirs: PreTrainedModel, texts: list[np.ndarray], segments: list[Tensor] | None = None) -> Tensor:
    """Return the whole model's logits of every document alone, neither packed nor padded."""
    logits = []
    for index, text in enumerate(texts):
        options = {"token_type_ids": segments[index][None]} if segments else {}
        logits.append(theirs(input_ids=torch.tensor([[2, *text, 3]]), **options).logits[0])
    return torch.cat(logits)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_logits_and_gradients_are_those_of_the_whole_model(save_theirs: SaveTheirs, model_type: str) -> None:
    folder = save_theirs(model_type)
    ours, theirs = import_foreign(folder), AutoModelForMaskedLM.from_pretrained(folder).eval()
    assert ours.has_trained_head and ours.architecture == type(theirs).__name__
    texts, vocabulary = documents(theirs.config.pad_token_id)
    x_TD = our_states(ours, pack_sequences(texts, vocabulary, 64))
    scored_M = torch.tensor([1, 7, 30, 44, 89])
    our_logits = ours.head(x_TD[scored_M], ours.encoder.embedding_weight_VE)
    their_logits = one_by_one(theirs, texts)[scored_M]
    torch.testing.assert_close(our_logits, their_logits, atol=1e-5, rtol=1e-4)

    for logits in (our_logits, their_logits):
        F.cross_entropy(logits, scored_M).backward()
    ours_by_name = dict(ours.encoder.body.named_parameters())
    for name, parameter in theirs.base_model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(ours_by_name[name].grad, parameter.grad, atol=1e-5, rtol=1e-3)
    assert any(parameter.grad is not None for parameter in ours.head.parameters())


@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.23"), reason="transformers 5.17 can't load what it saves of these"
)
def test_a_head_that_asks_the_body_for_its_embedding_finds_it(save_theirs: SaveTheirs) -> None:
    """The heads of DeBERTa v3 as it was released."""
    folder = save_theirs("deberta-v2", legacy=False)
    ours, theirs = import_foreign(folder), AutoModelForMaskedLM.from_pretrained(folder).eval()
    texts, vocabulary = documents(0)
    with torch.no_grad():
        x_TD = our_states(ours, pack_sequences(texts, vocabulary, 64))
        our_logits = ours.head(x_TD, ours.encoder.embedding_weight_VE)
        torch.testing.assert_close(our_logits, one_by_one(theirs, texts), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("model_type", ["roberta", "deberta-v2", "modernbert"])
def test_rows_of_one_sequence_give_the_same_as_packed_ones(save_theirs: SaveTheirs, model_type: str) -> None:
    ours = import_foreign(save_theirs(model_type))
    generator = np.random.default_rng(1)
    tokens = generator.integers(5, 100, (len(LENGTHS), 12))
    _, vocabulary = documents(ours.encoder.config.pad_token_id)
    with torch.no_grad():
        packed, stacked = (
            our_states(ours, batch)
            for batch in (pack_sequences(list(tokens), vocabulary, 64), stack_sequences(tokens, vocabulary))
        )
    torch.testing.assert_close(packed, stacked, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("model_type", "has_token_types"), [("bert", True), ("roberta", False), ("distilbert", False)])
def test_token_types_reach_the_models_that_have_them(
    save_theirs: SaveTheirs, model_type: str, has_token_types: bool
) -> None:
    folder = save_theirs(model_type)
    ours, theirs = import_foreign(folder), AutoModelForMaskedLM.from_pretrained(folder).eval()
    texts, vocabulary = documents(theirs.config.pad_token_id)
    batch = pack_sequences(texts, vocabulary, 64)
    layout = replace(batch.layout, segment_ids_T=(batch.layout.position_ids_T > 3).long())
    batch = replace(batch, input=replace(batch.input, layout=layout))
    segments = [(torch.arange(length + 2) > 3).long() for length in LENGTHS] if has_token_types else None
    with torch.no_grad():
        our_logits = ours.head(our_states(ours, batch), ours.encoder.embedding_weight_VE)
        torch.testing.assert_close(our_logits, one_by_one(theirs, texts, segments), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_the_longest_sequence_is_known(save_theirs: SaveTheirs, model_type: str) -> None:
    model = AutoModelForMaskedLM.from_pretrained(save_theirs(model_type)).eval()
    limit = position_limit(model.base_model)
    assert limit == (64 if model.config.pad_token_id == 1 else 66)
    with torch.no_grad():
        assert model(input_ids=torch.full((1, limit), 7)).logits.isfinite().all()
        if limit == 64:
            with pytest.raises((IndexError, RuntimeError)):
                model(input_ids=torch.full((1, limit + 1), 7))
