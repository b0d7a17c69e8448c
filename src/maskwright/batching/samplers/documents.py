"""Every document once an epoch, cut and packed so that rows are full.

Source: Liu et al. 2019, RoBERTa, arXiv:1907.11692, section 4.2 (full sentences, but a sequence never holds two
    documents; `batching/row_plan.py` has the plan).
Prefer: nearly always; hardly a position is padding.
"""

from typing import Any

from pydantic import Field

from maskwright.batching.row_stream import RowStream
from maskwright.batching.samplers.base import Sampler, SamplerConfig
from maskwright.core.batches import PackedBatch
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import TokenSplit


class DocumentsConfig(SamplerConfig):
    """Options of `documents`."""

    one_document_per_sequence: bool = Field(
        default=False,
        description="never cut a document that fits into a sequence; costs padding (default: cut to fill)",
    )


class Documents(Sampler):
    """Documents, packed; a long one is cut at other positions in every epoch."""

    Config = DocumentsConfig

    def __init__(
        self, options: Any, split: TokenSplit, vocabulary: Vocabulary, row_length: int, seed: int, stream: int = 0
    ) -> None:
        super().__init__(options, split, vocabulary, row_length, seed, stream)
        may_cut = not options.one_document_per_sequence
        self._rows = RowStream(split, vocabulary, row_length, seed, stream, may_cut)

    @property
    def num_rows_per_epoch(self) -> int:
        """See `Sampler`: every token appears once."""
        return self._rows.num_rows_per_epoch

    def batch(self, first_row: int, num_rows: int) -> PackedBatch:
        return self._rows.batch(first_row, num_rows)
