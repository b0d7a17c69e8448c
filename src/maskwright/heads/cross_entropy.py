"""Cross-entropy over a vocabulary without all logits at once: the head's memory stays the same for any batch.

The loss of a scored slot is `sum_k w_k (log sum_v exp(z_v) - z_k)` over K target tokens with weights: one token of
weight 1 in plain masked language modelling, several for smoothed targets; a slot of weight 0 counts for nothing.

Small logits are made as a whole. Large ones are made in pieces, each of which gives its loss and its gradients at once
and is dropped, so that nothing is computed twice. The idea of one pass for loss and gradients is that of Liger Kernel
(Hsu et al. 2024, arXiv:2410.10989). `tests/unit/heads/test_cross_entropy.py` compares loss and gradients of all ways.
"""

import math
import time
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from maskwright.core.batches import UNUSED, SlotLosses

MOST_LOGITS_BYTES = 256_000_000
"""What logits and everything as large as they are may take."""

PLAIN_BYTES_PER_LOGIT = 14
"""As a whole: in half and in full precision, then their exponentials, then the gradient in both."""

COMPILED_BYTES_PER_LOGIT = 6
"""As a whole in a compiled graph, which fuses what lies between the logits and their gradient, both in half precision;
there that is 14 % of a step faster than in pieces (16,384 tokens, 6 x 256, 2 cores of an AMD EPYC, 2026-11-21)."""

BYTES_PER_LOGIT = 8
"""In pieces: in half and in full precision, where the gradient takes their place, and that in half precision."""

Way = Literal["whole", "own", "torch"]
"""How the cross-entropy is made: of all logits at once, in pieces by this file, in pieces by torch's own function."""

TIMED_FLOPS = 2e10
"""Of a forward and backward pass that is timed to choose."""

MOST_ROWS = 1024
"""Slots in a piece, at most: more make matrix products no faster."""

CACHED_LOGITS = 2**22
"""Logits in a piece on a CPU, whose passes over them are many: 16 MB, which its cache holds. Forward and backward pass
of 2458 slots, 16,384 tokens, widths of 128 and 256: 0.27 and 0.45 s, and 0.37 and 0.53 s in pieces of 1024 slots; 614
slots as a whole 0.15 s, in pieces 0.12 s (one core of an AMD EPYC, bfloat16, 2026-11-28)."""


def is_small(num_slots: int, vocabulary_size: int, device: str, compiled: bool | None = None) -> bool:
    """Return whether logits are made as a whole.

    Args:
        num_slots: M.
        vocabulary_size: V.
        device: its type, such as "cpu".
        compiled: whether in a compiled graph; None: whether this code is being compiled.
    """
    num_logits = num_slots * vocabulary_size
    if torch.compiler.is_compiling() if compiled is None else compiled:
        return num_logits * COMPILED_BYTES_PER_LOGIT <= MOST_LOGITS_BYTES
    return num_logits <= (CACHED_LOGITS if device == "cpu" else MOST_LOGITS_BYTES // PLAIN_BYTES_PER_LOGIT)


def logits_bytes(num_slots: int, vocabulary_size: int, device: str, compiled: bool) -> int:
    """Return the memory that logits and what is as large as they are will take; see `is_small` for the arguments."""
    if is_small(num_slots, vocabulary_size, device, compiled):
        return num_slots * vocabulary_size * (COMPILED_BYTES_PER_LOGIT if compiled else PLAIN_BYTES_PER_LOGIT)
    return rows_of_piece(num_slots, vocabulary_size, device) * vocabulary_size * BYTES_PER_LOGIT


def rows_of_piece(num_slots: int, vocabulary_size: int, device: str) -> int:
    """Return how many slots a piece has; all pieces but the last are as large. See `is_small` for the arguments."""
    most_logits = CACHED_LOGITS if device == "cpu" else MOST_LOGITS_BYTES // BYTES_PER_LOGIT
    most = min(MOST_ROWS, max(1, most_logits // vocabulary_size))
    return math.ceil(num_slots / math.ceil(num_slots / most)) if num_slots else 1


def as_slots(target_ids_M: Tensor) -> tuple[Tensor, Tensor]:
    """Return one target a slot as ids [M, 1] and weights [M, 1]; `UNUSED` slots have weight 0."""
    return target_ids_M.clamp(min=0)[:, None], (target_ids_M != UNUSED).float()[:, None]


def losses_of_logits(logits_MV: Tensor, target_ids_MK: Tensor, weights_MK: Tensor) -> SlotLosses:
    """Return the cross-entropy of logits that are there as a whole.

    Args:
        logits_MV: float32 or float64 [M, V].
        target_ids_MK: int64 [M, K].
        weights_MK: float [M, K], at least 0.
    """
    chosen_MK = logits_MV.gather(1, target_ids_MK)
    losses_M = (weights_MK * (logits_MV.logsumexp(1, keepdim=True) - chosen_MK)).sum(1)
    is_correct_M = chosen_MK[:, 0].detach() >= logits_MV.detach().amax(1)
    return SlotLosses(losses_M.sum(), losses_M.detach(), is_correct_M)


def chunked_cross_entropy(
    x_ME: Tensor, embedding_VE: Tensor, bias_V: Tensor | None, target_ids_MK: Tensor, weights_MK: Tensor
) -> SlotLosses:
    """Return the cross-entropy of the logits `x E^T + b`, made in pieces.

    One node of the graph under `torch.compile`. The gradient is of first order only.

    Args:
        x_ME: float [M, E].
        embedding_VE: float [V, E].
        bias_V: float [V].
        target_ids_MK: int64 [M, K].
        weights_MK: float [M, K], at least 0; has no gradient.
    """
    device = x_ME.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x_ME.dtype
    needs_gradient = torch.is_grad_enabled()
    total, losses_M, is_correct_M, *_ = _in_pieces(
        x_ME, embedding_VE, bias_V, target_ids_MK, weights_MK, dtype, needs_gradient
    )
    return SlotLosses(total, losses_M.detach(), is_correct_M)


def has_torchs_cross_entropy() -> bool:
    """Return whether this torch has a cross-entropy in pieces of its own."""
    return hasattr(F, "linear_cross_entropy") and hasattr(torch.nn, "LinearCrossEntropyOptions")


def torchs_cross_entropy(x_ME: Tensor, embedding_VE: Tensor, bias_V: Tensor | None, target_ids_M: Tensor) -> Tensor:
    """Return the sum of the cross-entropies by torch's own `linear_cross_entropy`, in pieces as large as ours."""
    settings: Any = torch.nn
    functions: Any = F
    return functions.linear_cross_entropy(
        x_ME,
        embedding_VE,
        target_ids_M,
        linear_bias=bias_V,
        reduction="sum",
        ignore_index=UNUSED,
        options=settings.LinearCrossEntropyOptions(
            batch_chunk_size=rows_of_piece(len(x_ME), len(embedding_VE), x_ME.device.type), chunking_method=None
        ),
    )


def fastest_way(
    device: torch.device, dtype: torch.dtype, num_slots: int, vocabulary_size: int, width: int, compiled: bool
) -> Way:
    """Return how the cross-entropy of so many slots is made; where there is a choice, by measuring (about a second).

    Torch's own function is a choice in float32 alone, as under autocast its sum has the three digits of bfloat16, and
    outside compiled graphs, which it can't be part of.

    Args:
        device: where to compute.
        dtype: of matrix products.
        num_slots: M, the largest of the run.
        vocabulary_size: V.
        width: D.
        compiled: whether it will be in a compiled graph.
    """
    if is_small(num_slots, vocabulary_size, device.type, compiled):
        return "whole"
    if compiled or dtype != torch.float32 or not has_torchs_cross_entropy():
        return "own"
    num_timed = int(min(num_slots, max(64, TIMED_FLOPS / (6 * vocabulary_size * width))))
    generator = torch.Generator().manual_seed(0)
    x_ME = torch.randn((num_timed, width), generator=generator).to(device).requires_grad_()
    embedding_VE = (0.02 * torch.randn((vocabulary_size, width), generator=generator)).to(device).requires_grad_()
    target_ids_M = torch.randint(vocabulary_size, (num_timed,), generator=generator).to(device)
    ids_MK, weights_MK = as_slots(target_ids_M)

    def own() -> Tensor:
        return chunked_cross_entropy(x_ME, embedding_VE, None, ids_MK, weights_MK).total

    def torchs() -> Tensor:
        return torchs_cross_entropy(x_ME, embedding_VE, None, target_ids_M)

    seconds = {}
    for name, work in (("own", own), ("torch", torchs)):
        taken = []
        for _ in range(3):
            begin = time.perf_counter()
            total = work()
            total.backward()
            float(total.detach())  # waits for the device
            taken.append(time.perf_counter() - begin)
        seconds[name] = min(taken[1:])
    return "own" if seconds["own"] <= seconds["torch"] else "torch"


@torch.library.custom_op("maskwright::cross_entropy_in_pieces", mutates_args=())
def _in_pieces(
    x_ME: Tensor,
    embedding_VE: Tensor,
    bias_V: Tensor | None,
    target_ids_MK: Tensor,
    weights_MK: Tensor,
    dtype: torch.dtype,
    needs_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return total, losses and correctness of the slots, then the gradients of x, embedding and bias (or empty)."""
    full = torch.promote_types(dtype, torch.float32)
    weights_MK = weights_MK.to(full)
    embedding = embedding_VE.to(dtype)
    losses_M = torch.empty(len(x_ME), dtype=full, device=x_ME.device)
    is_correct_M = torch.empty(len(x_ME), dtype=torch.bool, device=x_ME.device)
    dx, d_embedding, d_bias = _gradients_like(x_ME, embedding_VE, bias_V, full, needs_gradient)
    rows = rows_of_piece(len(x_ME), len(embedding_VE), x_ME.device.type)
    with torch.autocast(x_ME.device.type, enabled=False):
        for begin in range(0, len(x_ME), rows):
            piece = slice(begin, begin + rows)
            x, ids, weights = x_ME[piece].to(dtype), target_ids_MK[piece], weights_MK[piece]
            logits = F.linear(x, embedding, None if bias_V is None else bias_V.to(dtype)).to(full)
            chosen, largest = logits.gather(1, ids), logits.amax(1, keepdim=True)
            is_correct_M[piece] = chosen[:, 0] >= largest[:, 0]
            exponentials = logits.sub_(largest).exp_()
            sums = exponentials.sum(1, keepdim=True)
            losses_M[piece] = (weights * (sums.log() + largest - chosen)).sum(1)
            if needs_gradient:
                d_logits = exponentials.mul_(weights.sum(1, keepdim=True) / sums).scatter_add_(1, ids, -weights)
                if bias_V is not None:
                    d_bias += d_logits.sum(0)
                d_logits = d_logits.to(dtype)
                dx[piece] = d_logits @ embedding
                if dtype == full:
                    d_embedding.addmm_(d_logits.T, x)
                else:
                    d_embedding += d_logits.T @ x
    return losses_M.sum(), losses_M, is_correct_M, dx, d_embedding, d_bias


def _gradients_like(
    x_ME: Tensor, embedding_VE: Tensor, bias_V: Tensor | None, full: torch.dtype, needs_gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return room for the gradients; empty tensors for those that are not wanted."""
    nothing = x_ME.new_empty(0)
    if not needs_gradient:
        return nothing, nothing.clone(), nothing.clone()
    d_bias = nothing if bias_V is None else torch.zeros_like(bias_V, dtype=full)
    return torch.empty_like(x_ME), torch.zeros_like(embedding_VE, dtype=full), d_bias


@_in_pieces.register_fake
def _(x_ME, embedding_VE, bias_V, target_ids_MK, weights_MK, dtype, needs_gradient):
    full = torch.promote_types(dtype, torch.float32)
    losses_M = torch.empty(len(x_ME), dtype=full, device=x_ME.device)
    is_correct_M = torch.empty(len(x_ME), dtype=torch.bool, device=x_ME.device)
    return losses_M.sum(), losses_M, is_correct_M, *_gradients_like(x_ME, embedding_VE, bias_V, full, needs_gradient)


def _keep_gradients(ctx, inputs, output) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*output[3:])
    ctx.dtypes = [None if value is None else value.dtype for value in inputs[:3]]


def _scale_gradients(ctx, d_total: Tensor, *_: Tensor | None):
    gradients = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
    scaled = [None if dtype is None else (d_total * gradient).to(dtype) for gradient, dtype in gradients]
    return *scaled, None, None, None, None


_in_pieces.register_autograd(_scale_gradients, setup_context=_keep_gradients)
