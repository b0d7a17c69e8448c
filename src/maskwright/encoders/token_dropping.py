"""Drops tokens from a packed batch, as many in every row, and puts other vectors where they were."""

from dataclasses import dataclass

import torch
from torch import Tensor

from maskwright.core.batches import Movable, SequenceLayout


@dataclass(frozen=True)
class DroppedTokens(Movable):
    """A packed batch without some of its tokens: N of T are kept, in rows that are shorter by the same number.

    Attributes:
        kept_N: int64 [N], indices of the kept tokens in the batch, ascending.
        gaps_K: int64 [K], indices of the dropped tokens, ascending.
        order_T: int64 [T], for each token of the batch, its index among the kept tokens followed by the gaps' vectors.
        layout: of the kept tokens; the sequences have the same numbers, positions have gaps.
    """

    kept_N: Tensor
    gaps_K: Tensor
    order_T: Tensor
    layout: SequenceLayout


def drop_tokens(layout: SequenceLayout, is_dropped_T: Tensor) -> DroppedTokens:
    """Return the indices and the layout of a batch without some of its tokens, on the host.

    Args:
        layout: of the whole batch.
        is_dropped_T: bool [T], the same number in every row.

    Raises:
        ValueError: it is not the same number.
    """
    per_row_R = is_dropped_T.view(-1, layout.row_length).sum(1)
    if not bool((per_row_R == per_row_R[0]).all()):
        raise ValueError(f"from {int(per_row_R.min())} to {int(per_row_R.max())} tokens of a row are dropped")
    kept_N = (~is_dropped_T).nonzero().squeeze(1)
    gaps_K = is_dropped_T.nonzero().squeeze(1)
    order_T = torch.empty_like(torch.cat([kept_N, gaps_K]))
    order_T[torch.cat([kept_N, gaps_K])] = torch.arange(len(order_T))
    index_N = layout.sequence_index_T[kept_N]
    sizes_S = torch.bincount(index_N, minlength=len(layout.sequence_starts) - 1)
    row_length = layout.row_length - int(per_row_R[0])
    short = SequenceLayout(
        sequence_starts=torch.cat([sizes_S.new_zeros(1), sizes_S.cumsum(0)]).to(layout.sequence_starts.dtype),
        sequence_index_T=index_N,
        position_ids_T=layout.position_ids_T[kept_N],
        segment_ids_T=layout.segment_ids_T[kept_N],
        row_length=row_length,
        max_length=min(layout.max_length, row_length),
        one_sequence_per_row=layout.one_sequence_per_row,
        is_causal_S=layout.is_causal_S,
        is_all_causal=layout.is_all_causal,
    )
    return DroppedTokens(kept_N, gaps_K, order_T, short)


def fill_gaps(x_ND: Tensor, vectors_KD: Tensor, dropped: DroppedTokens) -> Tensor:
    """Return hidden states for every token of the whole batch, float [T, D].

    Args:
        x_ND: float [N, D], of the kept tokens.
        vectors_KD: float [K, D], what stands in the gaps.
        dropped: from `drop_tokens`.
    """
    return _permuted(x_ND, vectors_KD.to(x_ND.dtype), dropped.order_T, dropped.kept_N, dropped.gaps_K)


@torch.library.custom_op("maskwright::fill_gaps", mutates_args=())
def _permuted(x_ND: Tensor, vectors_KD: Tensor, order_T: Tensor, kept_N: Tensor, gaps_K: Tensor) -> Tensor:
    """A permutation, whose gradient is the permutation back: two gathers, where that of indexing would add up."""
    return torch.cat([x_ND, vectors_KD]).index_select(0, order_T)


@_permuted.register_fake
def _(x_ND, vectors_KD, order_T, kept_N, gaps_K):
    return x_ND.new_empty(len(order_T), x_ND.shape[1])


def _keep_indices(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[3:])


def _permute_back(ctx, gradient_TD: Tensor):
    kept_N, gaps_K = ctx.saved_tensors
    return gradient_TD.index_select(0, kept_N), gradient_TD.index_select(0, gaps_K), None, None, None


_permuted.register_autograd(_permute_back, setup_context=_keep_indices)
