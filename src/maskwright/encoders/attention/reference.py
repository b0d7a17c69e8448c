"""Attention with a dense [T, T] mask over the whole batch: slow, obviously right, the yardstick of the others."""

import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.encoders.attention.base import Attention


class Reference(Attention):
    """Every token scores every token; what it may not see is minus infinity. Quadratic in T."""

    def attend(
        self, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, bias: Tensor | None = None, dropout_rate: float = 0.0
    ) -> Tensor:
        """See `Attention.attend`."""
        scores_HTT = torch.einsum("qhk,shk->hqs", q_THK, k_THK).float() / q_THK.shape[-1] ** 0.5
        if bias is not None:
            scores_HTT = scores_HTT + self._over_all_tokens(bias, q_THK.shape[1])
        scores_HTT = scores_HTT.masked_fill(~self._is_seen_TT(), float("-inf"))
        weights_HTT = F.dropout(scores_HTT.softmax(dim=-1), dropout_rate, training=dropout_rate > 0)
        return torch.einsum("hqs,shk->qhk", weights_HTT.to(v_THK.dtype), v_THK)

    def _is_seen_TT(self) -> Tensor:
        layout, sequence_T = self.layout, self.layout.sequence_index_T
        index_T = torch.arange(len(sequence_T), device=sequence_T.device)
        is_seen_TT = sequence_T[:, None] == sequence_T[None, :]
        if self.window is not None:
            # The index says as much as the position where positions are contiguous, and within a sequence alone.
            position_T = index_T if layout.has_contiguous_positions else layout.position_ids_T
            is_seen_TT &= (position_T[:, None] - position_T[None, :]).abs() <= self.window // 2
        if layout.is_all_causal or layout.is_causal_S is not None:
            is_causal_T = torch.ones_like(is_seen_TT[0])
            if not layout.is_all_causal and layout.is_causal_S is not None:
                is_causal_T = layout.is_causal_S[sequence_T]
            is_seen_TT &= (index_T[None, :] <= index_T[:, None]) | ~is_causal_T[:, None]
        if layout.is_visible_T is not None:
            is_seen_TT &= layout.is_visible_T[None, :]
        return is_seen_TT

    def _over_all_tokens(self, bias: Tensor, num_heads: int) -> Tensor:
        """Return the bias [H, T, T], zero between tokens of different rows."""
        row_length = self.layout.row_length
        num_rows = len(self.layout.sequence_index_T) // row_length
        bias_RHLL = bias.expand(num_rows, num_heads, row_length, row_length)
        return torch.stack([torch.block_diag(*bias_RHLL[:, head]) for head in range(num_heads)])
