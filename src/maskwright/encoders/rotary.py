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
        # Joined, so that the compiler writes them to memory once instead of computing them again in every layer.
        self._cos_sin_T1K = torch.cat([angles_TK.cos(), angles_TK.sin()], dim=-1)[:, None]

    def __call__(self, x_THK: Tensor) -> Tensor:
        """Rotate queries or keys [T, H, K]; float32 inside, the result has the type of `x_THK`."""
        first, second = x_THK.float().chunk(2, dim=-1)
        cos, sin = self._cos_sin_T1K.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x_THK.dtype)
