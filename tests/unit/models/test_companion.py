"""A companion is smaller, shares the token embedding, and learns at a rate of its own."""

import pytest
import torch

from maskwright.core.errors import RecipeError
from maskwright.core.randomness import torch_generator
from maskwright.encoders.build import build_config, build_encoder
from maskwright.models.companion import Companion
from maskwright.optim.roles import roles_of

SHAPE = {"num_layers": 4, "hidden_size": 64, "num_heads": 4, "feed_forward_size": 96}


@pytest.mark.parametrize("family", ["modernbert", "bert", "electra", "albert", "deberta"])
def test_it_reads_with_the_embedding_of_the_main_encoder(family, vocabulary, batch):
    encoder = build_encoder(family, None, SHAPE, vocabulary, 64, 1)
    companion = Companion(encoder, width=0.25, depth=0.5, learning_rate_factor=0.5)
    companion.initialize(torch_generator(1, "companion"))
    config = companion.encoder.config
    assert (config.num_layers, config.num_heads, config.hidden_size, config.feed_forward_size) == (2, 1, 16, 24)
    assert config.embedding_width == 64, "the main encoder's"
    embedding_VE = encoder.embedding_weight_VE
    x_MD = companion(batch.input, embedding_VE, torch.tensor([3, 9]))
    assert x_MD.shape == (2, 16)
    torch.testing.assert_close(companion(batch.input, embedding_VE)[[3, 9]], x_MD)
    (read,) = torch.autograd.grad(x_MD[:, 0].sum(), embedding_VE, retain_graph=True)
    assert read.abs().sum() > 0, "it learns from what the companion reads, and from what it predicts"
    companion.head(x_MD, embedding_VE).sum().backward()
    assert embedding_VE.grad is not None and embedding_VE.grad.abs().sum() > 0
    assert vocabulary.size * 64 not in {parameter.numel() for parameter in companion.parameters()}
    assert {role.learning_rate_factor for _, role in roles_of(companion).values()} == {0.5}


def test_weights_are_a_function_of_the_generator(encoder):
    states = []
    for seed in (1, 1, 2):
        companion = Companion(encoder)
        companion.initialize(torch_generator(seed, "companion"))
        states.append(companion.state_dict())
    first, twin, other = states
    assert all(torch.equal(tensor, twin[name]) for name, tensor in first.items())
    assert not torch.equal(first["head.transform.dense.weight"], other["head.transform.dense.weight"])


def test_a_class_of_transformers_has_no_companion(vocabulary):
    shape = {"model_type": "bert", "num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2}
    encoder = build_encoder("hugging_face", None, shape | {"intermediate_size": 24}, vocabulary, 64, 1)
    with pytest.raises(RecipeError, match="HuggingFace can't be scaled"):
        Companion(encoder)


def test_scaled_options_are_those_of_a_smaller_encoder(vocabulary):
    config = build_config("electra", "small", {}, vocabulary, 64)
    half = config.scaled(0.5, 1.0)
    assert (half.hidden_size, half.head_size, half.embedding_size) == (128, config.head_size, 128)
    assert config.scaled(0.01, 0.01).num_layers == config.scaled(0.01, 0.01).num_heads == 1
