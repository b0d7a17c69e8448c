"""Attention on [rows, row_length]: works on every device, compiles to one graph whatever the sequences are.

Two kernels with the same result: explicit matrix products, and torch's `scaled_dot_product_attention`.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.core.batches import SequenceLayout
from maskwright.encoders.attention.base import Attention, effective_window

MATMUL_MAX_ROW_LENGTH = 512
"""Longest rows for which explicit matrix products are used on the CPU in bfloat16.

Forward and backward, compiled, fused kernel against explicit products: 29 and 9 ms at 128, 54 and 32 at 512, 88 and 109
at 1024 (2048 tokens, 4 heads of 64, one core of an AMD EPYC with avx512_bf16, 2026-11-21). In float32 the fused kernel
wins at every length.
"""


class Padded(Attention):
    """No sequence crosses the end of a row, so rows are independent and [T, H, K] -> [R, L, H, K] is a reshape."""

    def __init__(self, layout: SequenceLayout, window: int | None = None) -> None:
        """Compute who sees whom within each row."""
        super().__init__(layout, window)
        self._is_seen = _who_sees_whom(layout, window)

    def attend(
        self, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, bias: Tensor | None = None, dropout_rate: float = 0.0
    ) -> Tensor:
        """See `Attention.attend`."""
        row_length = self.layout.row_length
        kernel = attend_by_matmul if is_matmul_faster(q_THK.device, q_THK.dtype, row_length) else attend_by_sdpa
        q_RHLK, k_RHLK, v_RHLK = (
            x_THK.unflatten(0, (-1, row_length)).transpose(1, 2) for x_THK in (q_THK, k_THK, v_THK)
        )
        x_RHLK = kernel(q_RHLK, k_RHLK, v_RHLK, self._is_seen, bias, dropout_rate)
        return x_RHLK.transpose(1, 2).flatten(0, 1)


def _who_sees_whom(layout: SequenceLayout, window: int | None) -> Tensor | None:
    """Return a mask that broadcasts to [R, 1, L, L] by query and key, or None if every token sees its whole row."""
    row_length = layout.row_length
    sequence_RL = layout.sequence_index_T.view(-1, row_length)
    index_L = torch.arange(row_length, device=sequence_RL.device)
    distance_LL = index_L[:, None] - index_L[None, :]
    masks: list[Tensor] = []
    if not layout.one_sequence_per_row:
        masks.append(sequence_RL[:, None, :, None] == sequence_RL[:, None, None, :])
    if window is not None and not layout.has_contiguous_positions:
        position_RL = layout.position_ids_T.view(-1, row_length)
        masks.append((position_RL[:, None, :, None] - position_RL[:, None, None, :]).abs() <= window // 2)
    elif (reach := effective_window(window, row_length)) is not None:
        masks.append(distance_LL.abs() <= reach // 2)
    if layout.is_all_causal:
        masks.append(distance_LL >= 0)
    elif layout.is_causal_S is not None:
        is_causal_RL = layout.is_causal_S[layout.sequence_index_T].view(-1, row_length)
        masks.append((distance_LL >= 0) | ~is_causal_RL[:, None, :, None])
    if layout.is_visible_T is not None:
        masks.append(layout.is_visible_T.view(-1, row_length)[:, None, None, :])
    return functools.reduce(torch.logical_and, masks) if masks else None


def is_matmul_faster(device: torch.device, dtype: torch.dtype, row_length: int) -> bool:
    """Return whether explicit matrix products beat torch's fused kernel (forward and backward)."""
    return device.type == "cpu" and dtype == torch.bfloat16 and row_length <= MATMUL_MAX_ROW_LENGTH


def attend_by_matmul(
    q_RHLK: Tensor, k_RHLK: Tensor, v_RHLK: Tensor, is_seen: Tensor | None, bias: Tensor | None, dropout_rate: float
) -> Tensor:
    """Attend with two matrix products and a softmax that is float32 inside."""
    scores_RHLL = q_RHLK @ k_RHLK.transpose(-1, -2) * q_RHLK.shape[-1] ** -0.5
    if bias is not None:
        scores_RHLL = scores_RHLL + bias
    if is_seen is not None:
        scores_RHLL = scores_RHLL.masked_fill(~is_seen, float("-inf"))
    weights_RHLL = F.dropout(scores_RHLL.softmax(dim=-1), dropout_rate, training=dropout_rate > 0)
    return weights_RHLL.to(v_RHLK.dtype) @ v_RHLK


def attend_by_sdpa(
    q_RHLK: Tensor, k_RHLK: Tensor, v_RHLK: Tensor, is_seen: Tensor | None, bias: Tensor | None, dropout_rate: float
) -> Tensor:
    """Attend with torch's fused kernel."""
    mask = is_seen
    if bias is not None:
        mask = bias.to(q_RHLK.dtype)
        mask = mask if is_seen is None else mask.masked_fill(~is_seen, float("-inf"))
    return F.scaled_dot_product_attention(q_RHLK, k_RHLK, v_RHLK, attn_mask=mask, dropout_p=dropout_rate)
