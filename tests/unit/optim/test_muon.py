"""Muon: what it makes of gradients, of matrices that share a weight, and over ranks."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from maskwright.core.ranks import Ranks
from maskwright.optim.muon import COEFFICIENTS, UPDATE_SIZE, Muon, orthogonalized


def weight(rows: int, columns: int, seed: int) -> nn.Parameter:
    generator = torch.Generator().manual_seed(seed)
    one = nn.Parameter(torch.randn(rows, columns, generator=generator))
    one.grad = torch.randn(rows, columns, generator=generator)
    return one


def optimizer(*weights: nn.Parameter, num_matrices: int = 1, num_turns: int = 1, **options) -> Muon:
    chosen = {"learning_rate": 0.01, "weight_decay": 0.0, "momentum": 0.9, "dtype": torch.float32, "ranks": Ranks()}
    group = {"params": list(weights), "num_matrices": num_matrices, "num_turns": num_turns}
    return Muon([group], **(chosen | options))


@pytest.mark.parametrize("shape", [(8, 8), (6, 12), (12, 6)])
def test_directions_stay_and_their_lengths_become_alike(shape):
    matrices_NRC = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrices_NRC, full_matrices=False)
    found = (u.mT @ orthogonalized(matrices_NRC) @ v.mT).diagonal(dim1=1, dim2=2)
    assert found.min() > 0.6 and found.max() < 1.3


def test_singular_values_from_a_hundredth_of_the_norm_on_become_alike():
    values = torch.logspace(0, -4, 64)
    u, v = (torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(seed)))[0] for seed in (0, 1))
    found = (u.mT @ orthogonalized((u * values @ v.mT)[None])[0] @ v).diagonal()
    is_large = values > 0.0102 * (values**4).sum() ** 0.25
    assert found[is_large].min() > 0.72 and found.max() < 1.28
    assert (found[~is_large] > 50 * values[~is_large]).all()  # the smaller ones grow


def test_every_polynomial_is_the_nearest_to_one_on_the_range_that_the_one_before_leaves():
    low, high = 0.01, 1.0
    for coefficients in COEFFICIENTS:
        x = np.geomspace(low, high, 2000)
        powers = np.stack([x, x**3, x**5], axis=1)
        error = np.ones((len(x), 1))
        least = linprog(
            [0, 0, 0, 1],
            A_ub=np.block([[powers, -error], [-powers, -error]]),
            b_ub=np.concatenate([np.ones(len(x)), -np.ones(len(x))]),
            bounds=[(None, None)] * 3 + [(0, None)],
        ).fun
        distances = np.abs(powers @ np.array(coefficients) - 1)
        assert distances.max() == pytest.approx(least, abs=1e-3)
        low, high = 1 - least, 1 + least
    assert (low, high) == pytest.approx((0.73, 1.27), abs=0.01)


def test_a_matrix_of_zeros_stays():
    assert torch.equal(orthogonalized(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (32, 8), (8, 32)])
def test_the_largest_singular_value_of_an_update_does_not_depend_on_the_width(rows, columns):
    one = weight(rows, columns, 0)
    before = one.detach().clone()
    optimizer(one).step()
    norm = float(torch.linalg.matrix_norm(before - one.detach(), ord=2))
    assert norm == pytest.approx(0.01 * UPDATE_SIZE * max(1, rows / columns) ** 0.5, rel=0.3)


@pytest.mark.parametrize("num_turns", [1, 2])
def test_matrices_in_one_weight_are_updated_as_if_each_had_one_of_its_own(num_turns):
    """Queries, keys and values above one another, and by heads (DeBERTa)."""
    apart = [weight(8, 6, seed) for seed in range(3)]

    def joined(tensors: list[Tensor]) -> Tensor:
        return torch.stack([each.unflatten(0, (num_turns, -1)) for each in tensors], dim=1).flatten(0, 2)

    together = nn.Parameter(joined([each.detach() for each in apart]))
    one, other = optimizer(*apart), optimizer(together, num_matrices=3, num_turns=num_turns)
    for _ in range(3):
        together.grad = joined([each.grad for each in apart])
        one.step()
        other.step()
    assert torch.equal(together, joined([each.detach() for each in apart]))


@dataclass(frozen=True)
class OneOfTwo(Ranks):
    """A rank that finds what the other has computed."""

    num_ranks: int = 2
    theirs: list[Tensor] = field(default_factory=list)
    mine: list[Tensor] = field(default_factory=list)

    def gather(self, tensor: Tensor) -> Tensor:
        self.mine.append(tensor)
        other = self.theirs[len(self.mine) - 1] if self.theirs else torch.zeros_like(tensor)
        return torch.cat([tensor, other] if self.is_first else [other, tensor])


def test_ranks_that_share_the_matrices_out_make_the_updates_of_one_process():
    shapes = [(8, 8)] * 5 + [(8, 4)]
    alone, first, second, whole = ([weight(*shape, seed) for seed, shape in enumerate(shapes)] for _ in range(4))
    optimizer(*alone).step()
    of_first, of_second = OneOfTwo(rank=0), OneOfTwo(rank=1)
    optimizer(*first, ranks=of_first).step()
    optimizer(*second, ranks=of_second).step()
    optimizer(*whole, ranks=OneOfTwo(rank=0, theirs=of_second.mine)).step()
    for mine, theirs in zip(whole, alone, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)
