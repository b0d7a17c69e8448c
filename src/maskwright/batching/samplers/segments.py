"""Runs of whole sentences or paragraphs: no sequence begins in the middle of one.

Source: Liu et al. 2019, RoBERTa, arXiv:1907.11692, section 4.2 (DOC-SENTENCES).
Departures: a unit longer than a sequence is cut where the sequence is full.
Prefer: when what a model will read begins with a sentence, and padding is affordable (rows are filled with whole runs).
"""

from typing import Any, Literal

from pydantic import Field

from maskwright.batching.row_plan import NUM_SPECIALS
from maskwright.batching.row_stream import RowStream
from maskwright.batching.samplers.base import Sampler, SamplerConfig
from maskwright.batching.segments import Segments as Runs
from maskwright.core.batches import PackedBatch
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import TokenSplit
from maskwright.corpus.marks import MARKS


class SegmentsConfig(SamplerConfig):
    """Options of `segments`."""

    unit: Literal["sentence", "paragraph"] = Field(default="sentence", description="what sequences are made of")


class Segments(Sampler):
    """As many whole units as fit make a sequence; sequences are packed whole."""

    Config = SegmentsConfig
    marks = MARKS

    def __init__(
        self, options: Any, split: TokenSplit, vocabulary: Vocabulary, row_length: int, seed: int, stream: int = 0
    ) -> None:
        """See `Sampler`; finding the runs reads all marks once (about 0.3 s per 10 million tokens)."""
        super().__init__(options, split, vocabulary, row_length, seed, stream)
        runs = Runs.of_units(split, options.unit, row_length - NUM_SPECIALS)
        self._rows = RowStream(split, vocabulary, row_length, seed, stream, may_cut=False, runs=runs)

    @property
    def num_rows_per_epoch(self) -> int:
        """See `Sampler`: every token appears once."""
        return self._rows.num_rows_per_epoch

    def batch(self, first_row: int, num_rows: int) -> PackedBatch:
        return self._rows.batch(first_row, num_rows)
