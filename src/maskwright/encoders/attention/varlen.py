"""Attention on the flat run of tokens with torch's kernel for variable lengths (Flash attention; NVIDIA GPUs)."""

from typing import ClassVar

import torch
from torch import Tensor

from maskwright.core.errors import RecipeError
from maskwright.encoders.attention.base import Attention
from maskwright.encoders.attention.padded import Padded


class Varlen(Attention):
    """Work is spent within sequences only, and no mask exists in memory.

    The kernel sees runs of places. What is no run, a window over text with gaps or tokens that nobody sees, `Padded`
    computes.
    """

    MIN_ROW_LENGTH: ClassVar[int] = 128

    @classmethod
    def runs_on(cls, device: torch.device, dtype: torch.dtype) -> bool:
        """See `Attention.runs_on`."""
        is_narrow = dtype in (torch.bfloat16, torch.float16)
        return device.type == "cuda" and is_narrow and torch.cuda.get_device_capability(device) >= (8, 0)

    def attend(
        self, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, bias: Tensor | None = None, dropout_rate: float = 0.0
    ) -> Tensor:
        """See `Attention.attend`; no bias, no dropout of attention weights, 16-bit numbers only."""
        if bias is not None or dropout_rate > 0:
            raise RecipeError(
                "attention: the backend 'varlen' has no attention bias and no dropout of attention weights",
                "attention_dropout 0, or the backend 'padded'",
            )
        has_gaps = self.window is not None and self.position_ids_T is not None
        if has_gaps or self.layout.is_key_T is not None:
            padded = Padded(self.layout, self.window, self.causal, self.position_ids_T)
            return padded.attend(q_THK, k_THK, v_THK)
        # Imported here: torch builds for other devices need not have the kernel.
        from torch.nn.attention.varlen import varlen_attn

        reach = -1 if self.window is None else self.window // 2
        starts, max_length = self.layout.sequence_starts, self.layout.max_length
        x_THK = varlen_attn(
            q_THK,
            k_THK,
            v_THK,
            starts,
            starts,
            max_length,
            max_length,
            window_size=(reach, 0 if self.causal else reach),
        )
        assert isinstance(x_THK, Tensor)
        return x_THK
