"""The latent head: a transform and a decoder of its own, with weights that a generator decides."""

import torch
import torch.nn.functional as F
from tests.unit.heads.test_vocabulary_head import config

from maskwright.core.randomness import torch_generator
from maskwright.heads import latent
from maskwright.heads.latent import LatentHead


def test_logits_are_dense_gelu_norm_and_one_row_an_atom() -> None:
    head = LatentHead(config("bert"), num_atoms=7)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x_MD = torch.randn((3, 16), generator=generator)
    hidden = F.gelu(x_MD @ head.transform.dense.weight.T + head.transform.dense.bias)
    normed = (hidden - hidden.mean(1, keepdim=True)) / (hidden.var(1, keepdim=True, correction=0) + 1e-12).sqrt()
    expected = (
        normed * head.transform.norm.weight + head.transform.norm.bias
    ) @ head.decoder.weight.T + head.decoder.bias
    assert head(x_MD).shape == (3, 7)
    torch.testing.assert_close(head(x_MD), expected, atol=1e-4, rtol=1e-4)


def test_large_logits_are_made_in_pieces_with_the_same_loss_and_gradients(monkeypatch) -> None:
    head = LatentHead(config("modernbert"), num_atoms=7)
    generator = torch.Generator().manual_seed(0)
    x_MD = torch.randn((5, 16), generator=generator, requires_grad=True)
    atom_ids_MW = torch.tensor([[1, 2], [3, 0], [0, 6], [5, 4], [0, 0]])
    weights_MW = torch.tensor([[0.7, 0.3], [1.0, 0.0], [0.6, 0.4], [0.5, 0.5], [0.0, 0.0]])
    results = []
    for is_small in (True, False):
        monkeypatch.setattr(latent, "is_small", lambda *_, answer=is_small: answer)
        slots = head.slot_losses(x_MD, atom_ids_MW, weights_MW)
        results.append((slots, torch.autograd.grad(slots.total, [x_MD, *head.parameters()])))
    (whole, gradients), (pieces, others) = results
    torch.testing.assert_close(pieces.total, whole.total)
    assert torch.equal(pieces.is_correct_M, whole.is_correct_M)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other)


def test_weights_are_a_function_of_the_generator_alone() -> None:
    state = torch.get_rng_state()
    heads = [LatentHead(config("modernbert"), num_atoms=7) for _ in range(3)]
    for head, seed in zip(heads, (3, 3, 4), strict=True):
        head.initialize(torch_generator(seed, "head"))
    first, twin, other = [head.state_dict() for head in heads]
    assert all(torch.equal(tensor, twin[name]) for name, tensor in first.items())
    assert not torch.equal(first["decoder.weight"], other["decoder.weight"])
    assert not torch.equal(first["transform.dense.weight"], other["transform.dense.weight"])
    assert first["decoder.bias"].eq(0).all()
    assert first["transform.norm.weight"].eq(1).all()
    assert torch.equal(torch.get_rng_state(), state)
