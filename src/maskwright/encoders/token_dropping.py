"""Leaving tokens out of a packed batch and putting something in their places again; as many in every row."""

from dataclasses import dataclass

import torch
from torch import Tensor

from maskwright.core.batches import Movable, SequenceLayout


@dataclass(frozen=True)
class Left(Movable):
    """What is left of a packed batch: N of T tokens, in rows that are shorter by the same number.

    Attributes:
        places_N: int64 [N], where the tokens that are left lie in the batch, ascending.
        gaps_K: int64 [K], the other places, ascending.
        order_T: int64 [T], for each place of the batch, where to look in what is left followed by what fills the gaps.
        layout: of what is left; the sequences have the same numbers, positions have gaps.
    """

    places_N: Tensor
    gaps_K: Tensor
    order_T: Tensor
    layout: SequenceLayout


def leave_out(layout: SequenceLayout, is_left_out_T: Tensor) -> Left:
    """Return a batch's places and layout without some tokens, on the host.

    Args:
        layout: of the whole batch.
        is_left_out_T: bool [T], the same number in every row.

    Raises:
        ValueError: it is not the same number.
    """
    per_row_R = is_left_out_T.view(-1, layout.row_length).sum(1)
    if not bool((per_row_R == per_row_R[0]).all()):
        raise ValueError(f"from {int(per_row_R.min())} to {int(per_row_R.max())} tokens of a row are left out")
    places_N = (~is_left_out_T).nonzero().squeeze(1)
    gaps_K = is_left_out_T.nonzero().squeeze(1)
    order_T = torch.empty_like(torch.cat([places_N, gaps_K]))
    order_T[torch.cat([places_N, gaps_K])] = torch.arange(len(order_T))
    index_N = layout.sequence_index_T[places_N]
    sizes_S = torch.bincount(index_N, minlength=len(layout.sequence_starts) - 1)
    row_length = layout.row_length - int(per_row_R[0])
    short = SequenceLayout(
        sequence_starts=torch.cat([sizes_S.new_zeros(1), sizes_S.cumsum(0)]).to(layout.sequence_starts.dtype),
        sequence_index_T=index_N,
        row_length=row_length,
        max_length=min(layout.max_length, row_length),
        one_sequence_per_row=layout.one_sequence_per_row,
    )
    return Left(places_N, gaps_K, order_T, short)


def put_back(x_ND: Tensor, filling_KD: Tensor, left: Left) -> Tensor:
    """Return hidden states in the places of the whole batch, float [T, D].

    Args:
        x_ND: float [N, D], of what is left.
        filling_KD: float [K, D], what stands in the gaps.
        left: from `leave_out`.
    """
    return _permuted(x_ND, filling_KD.to(x_ND.dtype), left.order_T, left.places_N, left.gaps_K)


@torch.library.custom_op("maskwright::put_back", mutates_args=())
def _permuted(x_ND: Tensor, filling_KD: Tensor, order_T: Tensor, places_N: Tensor, gaps_K: Tensor) -> Tensor:
    """A permutation, whose gradient is the permutation back: two gathers, where that of indexing would add up."""
    return torch.cat([x_ND, filling_KD]).index_select(0, order_T)


@_permuted.register_fake
def _(x_ND, filling_KD, order_T, places_N, gaps_K):
    return x_ND.new_empty(len(order_T), x_ND.shape[1])


def _keep_places(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[3:])


def _permute_back(ctx, gradient_TD: Tensor):
    places_N, gaps_K = ctx.saved_tensors
    return gradient_TD.index_select(0, places_N), gradient_TD.index_select(0, gaps_K), None, None, None


_permuted.register_autograd(_permute_back, setup_context=_keep_places)
