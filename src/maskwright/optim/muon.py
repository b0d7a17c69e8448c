"""Muon: averages of gradients that are made orthogonal, all matrices of one shape in one batch.

Source: Jordan et al. 2024, Muon: An optimizer for hidden layers in neural networks (github.com/KellerJordan/Muon).
Departures: matrices that a module keeps in one weight, such as queries, keys and values, are updated one by one. The
    size of an update is such that AdamW's learning rate serves both. Three iterations instead of five, by better
    polynomials and by a norm that is nearer to the largest singular value.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maskwright.core.ranks import Ranks

COEFFICIENTS = ((8.0934, -23.6205, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526))
"""Of the quintic iterations of Newton and Schulz, one after the other.

Each is the odd polynomial of degree 5 that is nearest to 1 on the range of singular values that the one before leaves,
from 0.01 to 1 at first (Amsel et al. 2025, The Polar Express, arXiv:2505.16932); after three, that range is 0.73 to
1.27, as wide as Jordan et al. leave it after five iterations. `tests/unit/optim/test_muon.py` finds them again."""

MARGIN = 1.02
"""By how much the norm is taken larger than it is, for what products in bfloat16 round away: beyond 1 the first
polynomial is steep."""

UPDATE_SIZE = 16.0
"""Largest singular value of a square matrix's update at a learning rate of 1, whatever its width, so that a rate that
was found at one width holds at others (Jordan et al.; Bernstein and Newhouse 2024, arXiv:2409.20325). At a width of 256
the root mean square of such an update is 1, which is the size of AdamW's first updates."""


@dataclass(frozen=True)
class _Matrix:
    """One matrix of a weight: a view of it, with its update, and its learning rate."""

    weight: Tensor
    update_RC: Tensor
    learning_rate: float


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal, with decoupled weight decay."""

    def __init__(
        self,
        groups: Iterable[Mapping[str, Any]],
        learning_rate: float,
        weight_decay: float,
        momentum: float,
        dtype: torch.dtype,
        ranks: Ranks,
    ) -> None:
        """Take groups of weights of two dimensions.

        Args:
            groups: each with `params`, and with `num_matrices` and `num_turns` of all of them (`roles.py`).
            learning_rate: of every group.
            weight_decay: decoupled, times the learning rate.
            momentum: of the average of gradients.
            dtype: of the iteration's matrix products.
            ranks: all processes of the run, which share the matrices out.
        """
        defaults = {"lr": learning_rate, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__([dict(group) for group in groups], defaults)
        self._dtype, self._ranks = dtype, ranks

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every weight that has a gradient; all ranks call together."""
        by_shape: dict[torch.Size, list[_Matrix]] = defaultdict(list)
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                for matrix in self._matrices(weight, group):
                    by_shape[matrix.update_RC.shape].append(matrix)
        for (rows, columns), matrices in by_shape.items():
            updates_NRC = self._orthogonalized(torch.stack([matrix.update_RC for matrix in matrices]))
            size = UPDATE_SIZE * max(1.0, rows / columns) ** 0.5
            for matrix, update_RC in zip(matrices, updates_NRC, strict=True):
                matrix.weight.add_(update_RC.view_as(matrix.weight), alpha=-matrix.learning_rate * size)

    def _matrices(self, weight: Tensor, group: Mapping[str, Any]) -> Iterable[_Matrix]:
        """Move the average of a weight's gradients; its matrices look ahead of that by one gradient (Nesterov)."""
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        average = state["momentum_buffer"].lerp_(weight.grad, 1 - group["momentum"])
        update = weight.grad.lerp(average, group["momentum"])
        # [turns, matrices, rows of a turn, columns]; a matrix is a view, over whose turns its rows are spread.
        shape = group["num_turns"], group["num_matrices"], -1
        both = (each.unflatten(0, shape).unbind(1) for each in (weight, update))
        return [_Matrix(view, part.flatten(0, 1), group["lr"]) for view, part in zip(*both, strict=True)]

    def _orthogonalized(self, matrices_NRC: Tensor) -> Tensor:
        """Return `orthogonalized` matrices, of which every rank computes its share."""
        ranks, num_matrices = self._ranks.num_ranks, len(matrices_NRC)
        if ranks == 1:
            return orthogonalized(matrices_NRC.to(self._dtype))
        share = -(-num_matrices // ranks)
        mine = matrices_NRC[self._ranks.rank * share :][:share].to(self._dtype)
        padded = torch.cat([orthogonalized(mine), mine.new_zeros(share - len(mine), *mine.shape[1:])])
        return self._ranks.gather(padded)[:num_matrices]


def orthogonalized(matrices_NRC: Tensor) -> Tensor:
    """Return matrices with the same singular vectors, and singular values between about 0.7 and 1.3.

    Those below a hundredth of the norm (of Schatten, of the fourth power) become larger too, but stay below 0.7.

    Args:
        matrices_NRC: any number of matrices of one shape; one of zeros stays as it is.
    """
    is_tall = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    x = matrices_NRC.mT if is_tall else matrices_NRC
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    # The fourth root of the sum of the singular values' fourth powers: of all bounds that the first product gives away,
    # the nearest to the largest one. The sum of their squares would make the others smaller than need be.
    gram = x @ x.mT
    bound = MARGIN * gram.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    x, gram = x / bound.sqrt(), gram / bound
    for number, (a, b, c) in enumerate(COEFFICIENTS):
        if number:
            gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x
