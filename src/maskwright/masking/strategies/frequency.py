"""Single tokens, rare ones more often.

Source: Lample and Conneau 2019, arXiv:1901.07291, section 3.3: weights in proportion to the inverse square root of the
    frequency.
Departures: any power; the share of hidden tokens stays exact.
"""

import torch
from pydantic import Field
from torch import Tensor

from maskwright.core.batches import PackedBatch
from maskwright.core.vocabulary import Vocabulary
from maskwright.masking.phase_start import PhaseStart
from maskwright.masking.strategies.base import Strategy, StrategyConfig, Units


class Frequency(Strategy):
    """Hides rare tokens more often than frequent ones, by their counts in the training text."""

    citation = "Lample and Conneau 2019, Cross-lingual Language Model Pretraining, arXiv:1901.07291"
    needs_begin = True

    class Config(StrategyConfig):
        """Options of `frequency`."""

        power: float = Field(
            default=0.5, ge=0, le=1, description="a token's weight is its frequency to the minus this; 0: all alike"
        )

    def __init__(self, config: Config, vocabulary: Vocabulary) -> None:
        """Begin without counts."""
        super().__init__(config, vocabulary)
        self._power = config.power
        self._weights_V: Tensor | None = None

    def begin(self, start: PhaseStart) -> None:
        """Take the counts of the training text; a token that does not occur there counts as if it did once."""
        counts_V = torch.from_numpy(start.corpus.unigram_counts_V).clamp(min=1).double()
        self._weights_V = counts_V.pow(-self._power)

    def units(self, batch: PackedBatch, is_text_T: Tensor, generator: torch.Generator, progress: float) -> Units:
        """Weigh every token by how rare it is."""
        assert self._weights_V is not None, "begin comes first"
        return Units(torch.ones_like(is_text_T), self._weights_V[batch.token_ids_T])
