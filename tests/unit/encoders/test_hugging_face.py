"""What the wrapper around models of transformers promises; tests/parity/test_foreign_models.py has the numbers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForMaskedLM

from maskwright.core.batches import PackedBatch
from maskwright.core.errors import RecipeError
from maskwright.encoders.attention import OWN_ATTENTION
from maskwright.encoders.families.hugging_face import HuggingFace, HuggingFaceConfig, indices_when_padded
from maskwright.encoders.masked_architectures import NO_LIMIT

SHAPE = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
RandomBatch = Callable[..., PackedBatch]


def wrapped(model_type: str, **options: Any) -> HuggingFace:
    """Return a small encoder of random weights."""
    shape = SHAPE | {"intermediate_size": 48, "max_position_embeddings": 50, "pad_token_id": 0}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(model_type, **(shape | options))
        model = AutoModelForMaskedLM.from_config(config, dtype=torch.float32)
    return HuggingFace(HuggingFaceConfig.of(model), model).eval()


def hidden_states(encoder: HuggingFace, batch: PackedBatch) -> Tensor:
    return encoder(batch.input)


def test_empty_sequences_and_padding_are_left_out_and_get_zeros(random_batch: RandomBatch) -> None:
    encoder, batch = wrapped("bert"), random_batch([20, 12, 9, 30, 7])
    seen: list[torch.Size] = []
    encoder.body.get_input_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    x_TD = hidden_states(encoder, batch)
    assert seen == [torch.Size([5, 32])], "five documents, none longer than 30 and its specials"
    is_padding_T = (batch.document_ids_S < 0)[batch.layout.sequence_index_T.long()]
    assert is_padding_T.any()
    assert not x_TD[is_padding_T].any()
    assert x_TD[~is_padding_T].abs().sum(dim=1).all()


def test_other_documents_make_no_difference(random_batch: RandomBatch) -> None:
    encoder, batch = wrapped("electra", embedding_size=16), random_batch([20, 12, 9, 30, 7])
    before = hidden_states(encoder, batch)
    for sequence in range(3):
        is_kept_T = batch.layout.sequence_index_T == sequence
        changed_T = torch.where(is_kept_T, batch.token_ids_T, (batch.token_ids_T + 7) % 100)
        after = hidden_states(encoder, replace(batch, input=replace(batch.input, token_ids_T=changed_T)))
        torch.testing.assert_close(after[is_kept_T], before[is_kept_T], atol=1e-6, rtol=0)


def test_indices_when_padded_on_an_example_by_hand() -> None:
    is_pad_T = torch.tensor([False, False, False, True, False, False, True, True])
    place_SL, is_real_SL = indices_when_padded(is_pad_T, torch.tensor([0, 2, 2, 3, 6, 8, 8], dtype=torch.int32))
    assert place_SL.tolist() == [[0, 1, 0], [2, 0, 0], [3, 4, 5]]
    assert is_real_SL.tolist() == [[True, True, False], [True, False, False], [True, True, True]]


@pytest.mark.parametrize(
    ("model_type", "options", "num_blocks"),
    [("bert", {}, 3), ("distilbert", {"dim": 32, "hidden_dim": 48}, 3), ("albert", {"embedding_size": 16}, 1)],
)
def test_the_layers_are_found(model_type: str, options: dict[str, Any], num_blocks: int) -> None:
    encoder = wrapped(model_type, **options)
    assert len(encoder.blocks) == num_blocks
    assert encoder.config.num_layers == 3
    names = [name for name, _ in encoder.named_parameters()]
    assert all(name.startswith(("blocks.", "body.")) for name in names)
    assert sum(name.startswith("blocks.") for name in names) == len(list(encoder.blocks.parameters()))
    assert len(names) == len(list(encoder.body.parameters())), "no weight is there twice"
    saved = {name: 2 * tensor for name, tensor in encoder.state_dict().items()}
    assert saved.keys() == dict(encoder.named_parameters()).keys()
    expected = {name: 2 * weight for name, weight in encoder.body.named_parameters()}
    encoder.load_state_dict(saved)
    assert all(torch.equal(weight, expected[name]) for name, weight in encoder.body.named_parameters())


def test_relative_positions_alone_have_no_limit() -> None:
    encoder = wrapped("bert")
    encoder.body.config.__dict__["max_position_embeddings"] = None
    assert HuggingFaceConfig.of(encoder.whole).max_positions == NO_LIMIT


def test_what_needs_the_inside_of_the_model_is_refused(random_batch: RandomBatch) -> None:
    encoder, batch = wrapped("bert"), random_batch([20])
    x_TD = hidden_states(encoder, batch)
    with pytest.raises(RecipeError, match="can't attend causally"):
        encoder(replace(batch.input, layout=replace(batch.layout, is_all_causal=True)))
    with pytest.raises(RecipeError, match="can't run in pieces"):
        encoder.embed(batch.input)
    with pytest.raises(RecipeError, match="can't run in pieces"):
        encoder.run_blocks(x_TD, batch.layout)
    with pytest.raises(RecipeError, match="can't run in pieces"):
        encoder.final_norm(x_TD)
    for known in ("padded", OWN_ATTENTION):
        encoder.use_attention(known)
    with pytest.raises(RecipeError, match="attention: no plug-in is named"):
        encoder.use_attention("paded")
