"""The interface of attention backends."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from maskwright.core.batches import SequenceLayout


class Attention(ABC):
    """Attention within the sequences of one packed batch.

    Made once per forward pass for each window, so that masks are computed once and not in every layer.

    Attributes:
        reads_starts: whether `sequence_starts` are read, whose number then is one of the shapes of a compiled graph.
    """

    reads_starts: ClassVar[bool] = False

    def __init__(self, layout: SequenceLayout, window: int | None = None) -> None:
        """Prepare what the layers share.

        Args:
            layout: which tokens belong together, which are visible, and which sequences are causal; no token attends
                outside its sequence.
            window: total width of the sliding window: a token sees those at most `window // 2` positions away, as
                ModernBERT's `local_attention`; None sees the whole sequence. Where tokens of the text were left out,
                stored positions tell how far apart two tokens are, and their indices in the row don't.
        """
        self.layout = layout
        self.window = window

    @classmethod
    def runs_on(cls, device: torch.device, dtype: torch.dtype) -> bool:
        """Return whether there is a kernel for a device and the dtype of its matrix products."""
        return True

    @abstractmethod
    def attend(
        self, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, bias: Tensor | None = None, dropout_rate: float = 0.0
    ) -> Tensor:
        """Return softmax(q k' / sqrt(K) + bias) v over what each token sees.

        Args:
            q_THK, k_THK, v_THK: float [T, H, K], queries, keys and values.
            bias: float, broadcastable to [rows, H, row_length, row_length]; by index in the row.
            dropout_rate: probability that an attention weight is dropped.

        Returns:
            float [T, H, K]; finite for padding too.

        Raises:
            RecipeError: the backend can't do this.
        """


def effective_window(window: int | None, row_length: int) -> int | None:
    """Return None if rows are so short that the window shuts nothing out, else `window`."""
    return None if window is None or window // 2 >= row_length - 1 else window
