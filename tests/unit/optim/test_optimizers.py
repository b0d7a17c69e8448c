"""Parameter groups, and optimizer state that travels by name."""

import pytest
import torch
from torch import nn

from maskwright.core.errors import CheckpointError, RecipeError
from maskwright.optim.optimizers import OptimizerConfig, Optimizers, require_roles
from maskwright.optim.roles import roles_of


class Layer(nn.Linear):
    role = "block"


class TwoBlocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.blocks = nn.ModuleList([Layer(4, 4), Layer(4, 4)])

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


def update(one: TwoBlocks, optimizers: Optimizers, steps: int = 1, learning_rate: float = 0.025) -> None:
    for _ in range(steps):
        one().backward()
        optimizers.clip()
        optimizers.step(learning_rate)


def assert_moved(one: TwoBlocks, other: TwoBlocks, factors: dict[str, float]) -> None:
    """Assert that parameters of the other moved so many times as far from where both began."""
    before = module()
    for name, factor in factors.items():
        moved = [each.get_parameter(name) - before.get_parameter(name) for each in (one, other)]
        torch.testing.assert_close(moved[1], factor * moved[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_state_taken_over_by_name_continues_to_the_last_bit(name):
    config = OptimizerConfig(name=name, learning_rate=0.05)
    straight = module()
    optimizers = Optimizers(straight, config)
    update(straight, optimizers, 5)

    stopped = module()
    first = Optimizers(stopped, config)
    update(stopped, first, 3)
    resumed = module(seed=1)
    resumed.load_state_dict(stopped.state_dict())
    second = Optimizers(resumed, config)
    second.load_state_tensors({path: tensor.clone() for path, tensor in first.state_tensors().items()})
    update(resumed, second, 2)
    for name_, parameter in resumed.named_parameters():
        assert torch.equal(parameter, straight.get_parameter(name_)), name_


def test_vectors_do_not_decay_and_matrices_do():
    one = module()
    before = {name: parameter.detach().clone() for name, parameter in one.named_parameters()}
    optimizers = Optimizers(one, OptimizerConfig(learning_rate=0.1, weight_decay=0.5))
    for parameter in one.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizers.step(0.1)
    for name, parameter in one.named_parameters():
        shrunk = 0.95 if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), shrunk * before[name])


def test_muon_gets_the_matrices_of_the_blocks_alone():
    one = module()
    optimizers = Optimizers(one, OptimizerConfig(name="muon"))
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
        optimizers = Optimizers(one, OptimizerConfig(clip_norm=limit))
        one().backward()
        norm = float(optimizers.clip())
        after = float(torch.stack([parameter.grad.norm() for parameter in one.parameters()]).norm())
        assert norm > 0.1
        assert after == pytest.approx(expected or norm, rel=1e-4)


def test_state_of_another_model_is_refused():
    optimizers = Optimizers(module(), OptimizerConfig())
    with pytest.raises(CheckpointError, match=r"other\.weight"):
        optimizers.load_state_tensors({"adamw/other.weight/exp_avg": torch.zeros(2)})


def test_a_learning_rate_factor_holds_for_all_inside_a_module():
    one, other = module(), module()
    other.blocks[1].learning_rate_factor = 0.25
    other.learning_rate_factor = 2.0
    for each in (one, other):
        update(each, Optimizers(each, OptimizerConfig(learning_rate=0.05, weight_decay=0, clip_norm=0)))
    assert_moved(one, other, {"embedding.weight": 2.0, "blocks.0.weight": 2.0, "blocks.1.bias": 0.5})


def test_muon_gets_nothing_but_two_dimensions():
    """Such as a convolution or a stack of experts: AdamW has them."""
    one = module()
    one.blocks[0].kernel = nn.Parameter(torch.zeros(4, 4, 3))
    roles = roles_of(one)
    assert roles["blocks.0.kernel"][1].decays
    optimizers = Optimizers(one, OptimizerConfig(name="muon"))
    one.blocks[0].kernel.grad = torch.ones_like(one.blocks[0].kernel)
    update(one, optimizers)
    assert "adamw/blocks.0.kernel/exp_avg" in optimizers.state_tensors()
    assert list(roles) == [name for name, _ in one.named_parameters()]


def test_a_tied_parameter_is_there_once():
    one = module()
    one.head = nn.Linear(4, 7, bias=False)
    one.head.weight = one.embedding.weight
    assert list(roles_of(one)) == [name for name, _ in one.named_parameters()]


def test_a_role_has_a_learning_rate_of_its_own():
    one, other = module(), module()
    one.embedding.role = other.embedding.role = "embedding"
    same = {"learning_rate": 0.05, "weight_decay": 0, "clip_norm": 0}
    factors = {"embedding": 3.0, "vector": 0.5}
    update(one, Optimizers(one, OptimizerConfig(**same)))
    update(other, Optimizers(other, OptimizerConfig(**same, learning_rate_factors=factors)))
    assert_moved(one, other, {"embedding.weight": 3.0, "blocks.0.weight": 1.0, "blocks.1.bias": 0.5})


def test_a_factor_for_a_role_that_no_parameter_has_is_refused():
    one = module()
    require_roles(one, OptimizerConfig(learning_rate_factors={"block": 2.0}))
    one.embedding.role = "embedding"
    with pytest.raises(RecipeError, match=r"factors\.head is 2, and no parameter has that role"):
        require_roles(one, OptimizerConfig(learning_rate_factors={"head": 2.0}))
