"""Rotary position embeddings.

Source: Su et al. 2021, RoFormer, arXiv:2104.09864; halves paired as in GPT-NeoX and ModernBERT.
"""

import torch
from torch import Tensor


class Rotation:
    """Cosines and sines of one forward pass, shared by every layer with the same base."""

    def __init__(self, position_ids_T: Tensor, head_size: int, theta: float) -> None:
        """Compute the angles in float32.

        Args:
            position_ids_T: int64 [T], the stored positions.
            head_size: K.
            theta: base of the wavelengths.
        """
        exponents = torch.arange(0, head_size, 2, dtype=torch.float32, device=position_ids_T.device) / head_size
        angles_TK = position_ids_T[:, None].float() * (1.0 / theta**exponents)
        self._cos_T1K, self._sin_T1K = angles_TK.cos()[:, None], angles_TK.sin()[:, None]

    def __call__(self, x_THK: Tensor) -> Tensor:
        """Rotate queries or keys [T, H, K]; float32 inside, the result has the type of `x_THK`."""
        first, second = x_THK.float().chunk(2, dim=-1)
        turned = (
            first * self._cos_T1K - second * self._sin_T1K,
            second * self._cos_T1K + first * self._sin_T1K,
        )
        return torch.cat(turned, dim=-1).to(x_THK.dtype)
