"""The vocabulary head is tied to the embedding and sees scored positions only."""

import torch
import torch.nn.functional as F

from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders import build_config
from maskwright.encoders.config import EncoderConfig
from maskwright.heads.vocabulary import VocabularyHead


def config(family: str) -> EncoderConfig:
    vocabulary = Vocabulary(50, 0, 1, 2, 3, 4, (0, 1, 2, 3, 4), "0")
    shape = {"num_layers": 2, "hidden_size": 16, "num_heads": 2, "feed_forward_size": 32}
    return build_config(family, None, shape, vocabulary, 32)


def test_families_differ_in_their_biases() -> None:
    assert {name for name, _ in VocabularyHead(config("modernbert")).named_parameters()} == {
        "decoder.bias",
        "transform.dense.weight",
        "transform.norm.weight",
    }
    assert {name for name, _ in VocabularyHead(config("bert")).named_parameters()} == {
        "decoder.bias",
        "transform.dense.weight",
        "transform.dense.bias",
        "transform.norm.weight",
        "transform.norm.bias",
    }


def test_logits_are_dense_gelu_norm_and_the_tied_decoder() -> None:
    head = VocabularyHead(config("bert"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x_MD = torch.randn((3, 16), generator=generator)
    embedding_VE = torch.randn((50, 16), generator=generator, requires_grad=True)
    hidden = F.gelu(x_MD @ head.transform.dense.weight.T + head.transform.dense.bias)
    normed = (hidden - hidden.mean(1, keepdim=True)) / (hidden.var(1, keepdim=True, correction=0) + 1e-12).sqrt()
    expected = (normed * head.transform.norm.weight + head.transform.norm.bias) @ embedding_VE.T + head.decoder.bias
    logits_MV = head(x_MD, embedding_VE)
    torch.testing.assert_close(logits_MV, expected, atol=1e-4, rtol=1e-4)
    assert torch.autograd.grad(logits_MV.sum(), embedding_VE)[0].abs().sum() > 0


def test_weights_are_a_function_of_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first, second, other = (VocabularyHead(config("modernbert"), seed).transform.dense.weight for seed in (3, 3, 4))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
