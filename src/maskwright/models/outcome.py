"""What a phase leaves behind: the heads of an export, and what can fill masks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

FillsMasks = Literal["encoder", "reader", "no"]
"""What can fill masks after a phase: the encoder with the vocabulary head, a reader that runs beyond it, or nothing."""


@dataclass(frozen=True)
class Outcome:
    """What a phase leaves behind.

    Attributes:
        heads: the heads that go into an export, by kind, such as "vocabulary"; the first gives the export its class.
            An exporter has to know each kind (`Exporter.heads`).
        fills_masks: what can fill masks afterwards.
        reader: what fills them, called as the encoder is; the encoder itself, a module that runs beyond it, or None.
    """

    heads: Mapping[str, nn.Module]
    fills_masks: FillsMasks
    reader: nn.Module | None
