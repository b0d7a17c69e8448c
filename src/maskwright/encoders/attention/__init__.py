"""Attention within the sequences of a packed batch: one interface, several backends, proven equal.

`tests/numerics/test_attention_backends.py` compares outputs and gradients.
"""

import torch
from torch import Tensor

from maskwright.core.batches import SequenceLayout
from maskwright.core.discovery import load_plug_in
from maskwright.core.errors import RecipeError
from maskwright.encoders.attention.base import Attention, effective_window

BACKENDS = "maskwright.encoders.attention"
"""Where the backends are: one file each, read when it is chosen, since torch's kernels take long to import."""

SHORTEST_VARLEN_ROW = 128
"""Tokens in a row from which `varlen` is chosen."""

__all__ = ["BACKENDS", "Attention", "attend", "backend", "choose_backend", "effective_window", "require_backend"]


OWN_ATTENTION = "its own"
"""What stands for a backend where a class of transformers attends in its own way."""


def choose_backend(device: torch.device, dtype: torch.dtype, row_length: int, needs_scores: bool = False) -> str:
    """Return the backend to use, decided once at start-up.

    `varlen` needs an NVIDIA GPU of compute capability 8.0 or higher and 16-bit numbers; rows so short that nothing is
    saved by leaving out the other sequences go to `padded` there too.

    Args:
        device: where the encoder runs.
        dtype: of the matrix products (autocast's, where it is on).
        row_length: tokens in a row.
        needs_scores: whether scores get a bias or dropout, which `varlen` does not have.
    """
    is_worth_it = device.type == "cuda" and row_length >= SHORTEST_VARLEN_ROW and not needs_scores
    return "varlen" if is_worth_it and backend("varlen").runs_on(device, dtype) else "padded"


def require_backend(name: str, device: torch.device, dtype: torch.dtype) -> None:
    """Refuse a backend that a device has no kernel for.

    Raises:
        RecipeError: there is none of this name, or it does not run there.
    """
    if not backend(name).runs_on(device, dtype):
        raise RecipeError(
            f"attention: the backend {name!r} does not run on {device} with {str(dtype).removeprefix('torch.')}",
            "an NVIDIA GPU of compute capability 8.0 or higher, a torch that has the kernel for it, and bfloat16",
            "leave `attention` at auto",
        )


def backend(name: str) -> type[Attention]:
    """Return a backend by its name.

    Raises:
        RecipeError: there is none of this name.
    """
    return load_plug_in(BACKENDS, name, Attention)


def attend(
    name: str,
    q_THK: Tensor,
    k_THK: Tensor,
    v_THK: Tensor,
    layout: SequenceLayout,
    window: int | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Attend once with the backend `name`; layers that share a layout and window share an `Attention` instead.

    Args:
        name: of the backend.
        q_THK, k_THK, v_THK: float [T, H, K], queries, keys and values.
        layout: which tokens belong together.
        window, bias: see `Attention`.

    Returns:
        float [T, H, K].
    """
    return backend(name)(layout, window).attend(q_THK, k_THK, v_THK, bias)
