"""Parameter groups, and optimizer state that travels by name."""

import pytest
import torch
from torch import nn

from maskwright.core.errors import CheckpointError
from maskwright.optim.optimizers import OptimizerConfig, Optimizers


class TwoBlocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

    def forward(self) -> torch.Tensor:
        x = self.embedding.weight
        for block in self.blocks:
            x = block(x).tanh()
        return x.square().sum()


def module(seed: int = 0) -> TwoBlocks:
    one = TwoBlocks()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.normal_(generator=generator)
    return one


def update(one: TwoBlocks, optimizers: Optimizers, steps: int = 1) -> None:
    for _ in range(steps):
        one().backward()
        optimizers.clip()
        optimizers.step(0.5)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_state_taken_over_by_name_continues_to_the_last_bit(name):
    config = OptimizerConfig(name=name, learning_rate=0.05)
    straight = module()
    optimizers = Optimizers(straight.named_parameters(), config)
    update(straight, optimizers, 5)

    stopped = module()
    first = Optimizers(stopped.named_parameters(), config)
    update(stopped, first, 3)
    resumed = module(seed=1)
    resumed.load_state_dict(stopped.state_dict())
    second = Optimizers(resumed.named_parameters(), config)
    second.load_state_tensors({path: tensor.clone() for path, tensor in first.state_tensors().items()})
    update(resumed, second, 2)
    for name_, parameter in resumed.named_parameters():
        assert torch.equal(parameter, straight.get_parameter(name_)), name_


def test_vectors_do_not_decay_and_matrices_do():
    one = module()
    before = {name: parameter.detach().clone() for name, parameter in one.named_parameters()}
    optimizers = Optimizers(one.named_parameters(), OptimizerConfig(learning_rate=0.1, weight_decay=0.5))
    for parameter in one.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizers.step(1.0)
    for name, parameter in one.named_parameters():
        shrunk = 0.95 if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), shrunk * before[name])


def test_muon_gets_the_matrices_of_the_blocks_alone():
    one = module()
    optimizers = Optimizers(one.named_parameters(), OptimizerConfig(name="muon"))
    update(one, optimizers)
    kinds = {path.split("/")[1]: path.split("/")[0] for path in optimizers.state_tensors()}
    assert kinds == {
        "embedding.weight": "adamw",
        "blocks.0.weight": "muon",
        "blocks.0.bias": "adamw",
        "blocks.1.weight": "muon",
        "blocks.1.bias": "adamw",
    }


def test_gradients_are_clipped_to_the_norm_and_zero_turns_clipping_off():
    for limit, expected in ((0.1, 0.1), (0.0, None)):
        one = module()
        optimizers = Optimizers(one.named_parameters(), OptimizerConfig(clip_norm=limit))
        one().backward()
        norm = float(optimizers.clip())
        after = float(torch.stack([parameter.grad.norm() for parameter in one.parameters()]).norm())
        assert norm > 0.1
        assert after == pytest.approx(expected or norm, rel=1e-4)


def test_state_of_another_model_is_refused():
    optimizers = Optimizers(module().named_parameters(), OptimizerConfig())
    with pytest.raises(CheckpointError, match=r"other\.weight"):
        optimizers.load_state_tensors({"adamw/other.weight/exp_avg": torch.zeros(2)})
