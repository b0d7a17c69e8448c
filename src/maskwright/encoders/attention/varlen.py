"""Attention on the flat run of tokens with torch's kernel for variable lengths (Flash attention; NVIDIA GPUs)."""

import functools
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from maskwright.core.errors import RecipeError
from maskwright.core.hardware import wait_for_device
from maskwright.core.log import printable, warn
from maskwright.encoders.attention.base import Attention
from maskwright.encoders.attention.padded import Padded


class Varlen(Attention):
    """Work is spent within sequences only, and no mask exists in memory.

    The kernel sees runs of tokens, all in one direction. What it can't say, a window over text with gaps, tokens that
    nobody sees or sequences of two directions, `Padded` computes.
    """

    reads_starts: ClassVar[bool] = True

    @classmethod
    def runs_on(cls, device: torch.device, dtype: torch.dtype) -> bool:
        """See `Attention.runs_on`; where the kernel should run, it is tried."""
        is_narrow = dtype in (torch.bfloat16, torch.float16)
        is_new = device.type == "cuda" and is_narrow and torch.cuda.get_device_capability(device) >= (8, 0)
        return is_new and kernel_works(device, dtype)

    def attend(
        self, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, bias: Tensor | None = None, dropout_rate: float = 0.0
    ) -> Tensor:
        """See `Attention.attend`; no bias, no dropout of attention weights, 16-bit numbers only."""
        if bias is not None or dropout_rate > 0:
            raise RecipeError(
                "attention: the backend 'varlen' has no attention bias and no dropout of attention weights",
                "attention_dropout 0, or the backend 'padded'",
            )
        layout = self.layout
        has_gaps = self.window is not None and not layout.has_contiguous_positions
        has_two_directions = layout.is_causal_S is not None and not layout.is_all_causal
        if has_gaps or has_two_directions or layout.is_visible_T is not None:
            return Padded(layout, self.window).attend(q_THK, k_THK, v_THK)
        reach = -1 if self.window is None else self.window // 2
        starts, max_length = layout.sequence_starts, layout.max_length
        x_THK = varlen_attn(
            q_THK,
            k_THK,
            v_THK,
            starts,
            starts,
            max_length,
            max_length,
            window_size=(reach, 0 if layout.is_all_causal else reach),
        )
        assert isinstance(x_THK, Tensor)
        return x_THK


@functools.cache
def kernel_works(device: torch.device, dtype: torch.dtype) -> bool:
    """Try the kernel once, forward and backward, with a window: builds of torch differ in what they hold."""
    x_THK = torch.zeros((16, 1, 64), device=device, dtype=dtype, requires_grad=True)
    starts = torch.tensor([0, 16], device=device, dtype=torch.int32)
    try:
        with torch.enable_grad():
            attended = varlen_attn(x_THK, x_THK, x_THK, starts, starts, 16, 16, window_size=(4, 4))
            assert isinstance(attended, Tensor)
            attended.sum().backward()
        wait_for_device(device)
    except (RuntimeError, TypeError) as error:
        why = printable(str(error)[:200])
        warn(f"attention: torch {torch.__version__} has no kernel for 'varlen' on {device}: {why}")
        return False
    return True
