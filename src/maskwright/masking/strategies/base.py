"""The contract of a masking strategy: which tokens are hidden together, and how likely each is.

To add one, write one file next to this one (`my_idea.py` with the class `MyIdea`), or anywhere else and name it
"module:Class" in `strategy`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from maskwright.core.batches import PackedBatch
from maskwright.core.options import Options
from maskwright.core.vocabulary import Vocabulary
from maskwright.masking.phase_start import PhaseStart


class StrategyConfig(Options):
    """Base of a strategy's options: frozen, unknown keys refused."""


@dataclass(frozen=True)
class Units:
    """How a batch is cut into units that are hidden whole or not at all.

    Attributes:
        starts_T: bool [T], true where a unit begins.
        weights_T: float [T], above 0; a unit is drawn in proportion to the mean of its tokens' weights. None: all
            units alike.
    """

    starts_T: Tensor
    weights_T: Tensor | None = None


class Strategy(nn.Module, ABC):
    """Cuts text into units and weighs them; which of them are hidden is drawn by `selection.select_positions`.

    Attributes:
        Config: class of the options, a subclass of `StrategyConfig`.
        citation: where the idea comes from.
        needs_words: whether it is of no use where the tokenizer does not say where words begin.
        needs_begin: whether `begin` must have been called before `units`.
        counts_steps: whether the phase must have the steps that were planned, even if its hours are missed.
        learns: whether it wants to see how hidden tokens were predicted.
    """

    Config: ClassVar[type[StrategyConfig]] = StrategyConfig
    citation: ClassVar[str]
    needs_words: ClassVar[bool] = False
    needs_begin: ClassVar[bool] = False
    counts_steps: ClassVar[bool] = False
    learns: ClassVar[bool] = False

    def __init__(self, config: StrategyConfig, vocabulary: Vocabulary) -> None:
        """Keep the options."""
        super().__init__()
        self.config, self.vocabulary = config, vocabulary

    def begin(self, start: PhaseStart) -> None:
        """Make ready for a phase; see `Objective.begin`. By default nothing."""

    @abstractmethod
    def units(self, batch: PackedBatch, is_text_T: Tensor, generator: torch.Generator, progress: float) -> Units:
        """Return the units of a batch, on the host.

        A function of the arguments and, for a strategy that learns, of what it knew at a step that follows from
        `progress`. Units may hold tokens that are not text; these are left out.

        Args:
            batch: clean tokens; not changed.
            is_text_T: bool [T], the tokens that may be hidden.
            generator: on the CPU.
            progress: of the phase, in [0, 1].
        """

    def observe(self, target_ids_M: Tensor, is_correct_M: Tensor) -> None:
        """Take notice of predictions, on the device and inside the compiled graph. By default nothing.

        Args:
            target_ids_M: int64 [M], the clean tokens; `UNUSED` in unused slots.
            is_correct_M: bool [M], whether they were the most likely ones.
        """

    def after_step(self, num_steps: int) -> None:
        """Work in what was observed; see `Objective.after_step`. By default nothing."""
