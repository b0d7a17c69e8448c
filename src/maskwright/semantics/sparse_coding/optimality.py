"""How far non-negative lasso codes are from the optimum: duality gap and violated conditions, safe in float32.

Source: Kim, Koh, Lustig, Boyd and Gorinevsky 2007, 10.1109/JSTSP.2007.910971 (the dual point from the residual).
"""

import torch
from torch import Tensor


def optimality(atoms_AD: Tensor, states_MD: Tensor, codes_MA: Tensor, penalty: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return duality gap, objective and optimality violation (in units of the penalty) of any codes, each [M]."""
    residual_MD = torch.addmm(states_MD, codes_MA, atoms_AD, alpha=-1)
    slope_MA = residual_MD @ atoms_AD.T
    gap_M, objective_M = gap_and_objective(residual_MD, codes_MA, slope_MA, penalty)
    excess_MA = slope_MA - penalty
    violation_MA = torch.where(codes_MA > 0, excess_MA.abs(), excess_MA.relu())
    return gap_M, objective_M, violation_MA.amax(1) / penalty


def gap_and_objective(residual_MD: Tensor, codes_MA: Tensor, slope_MA: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Return the duality gap and the objective of codes, each [M].

    The dual point is the residual, scaled by the best s with s * slope <= penalty everywhere. Primal minus dual is then
    1/2 (1 - s)^2 ||r||^2 + sum of a_k (penalty - s slope_k): no term is negative, so nothing cancels in float32.

    Args:
        residual_MD: r = x - D a.
        codes_MA: a.
        slope_MA: D^T r.
        penalty: lambda.
    """
    tiny = torch.finfo(residual_MD.dtype).tiny
    energy_M = residual_MD.square().sum(1)
    best_M = 1 + (codes_MA * slope_MA).sum(1) / energy_M.clamp_min(tiny)
    scale_M = best_M.clamp_min(0).minimum(penalty / slope_MA.amax(1).clamp_min(tiny))
    slack_MA = penalty - scale_M[:, None] * slope_MA
    gap_M = 0.5 * (1 - scale_M).square() * energy_M + (codes_MA * slack_MA).sum(1)
    return gap_M.clamp_min(0), 0.5 * energy_M + penalty * codes_MA.sum(1)
