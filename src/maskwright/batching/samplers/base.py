"""The contract of a sampler: from the number of a row to its tokens, a pure function of (seed, number).

To add one, write one file next to this one (`my_sampler.py` with the class `MySampler`), or anywhere else and name it
"module:Class" in a recipe.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from maskwright.core.batches import WORD, PackedBatch
from maskwright.core.options import Options
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import TokenSplit
from maskwright.corpus.marks import require_marks


class SamplerConfig(Options):
    """Base of a sampler's options."""


class Sampler(ABC):
    """Rows of one split, epoch after epoch.

    Random access: what row number n holds depends on the seed and n alone. So the position of a run in its data is one
    integer, and it does not matter how many devices share the rows of a step.

    Attributes:
        Config: class of the options, a subclass of `SamplerConfig`.
        marks: of the corpus that are needed; `prepare` finds what the phases of a recipe need.
        is_of_documents: whether each sequence is a run of tokens of one document, so that `document_starts_S` tells
            which token of the corpus each of its tokens is.
        gives_labels: whether `labels_S` of its batches says something.
        row_length: tokens in a row, with specials.
    """

    Config: ClassVar[type[SamplerConfig]] = SamplerConfig
    marks: ClassVar[tuple[str, ...]] = (WORD,)
    is_of_documents: ClassVar[bool] = True
    gives_labels: ClassVar[bool] = False

    def __init__(
        self, options: Any, split: TokenSplit, vocabulary: Vocabulary, row_length: int, seed: int, stream: int = 0
    ) -> None:
        """Plan the rows.

        Args:
            options: a `Config`.
            split: where the tokens are.
            vocabulary: gives the special tokens.
            row_length: tokens in a row, with specials.
            seed: of the run.
            stream: number of the stream under this seed; every kind of rows in a run has its own.

        Raises:
            CorpusError: the corpus lacks marks that the sampler needs.
        """
        require_marks(self.marks, split.marks, f"the sampler {type(self).__name__.lower()}")
        self.options, self.split, self.vocabulary = options, split, vocabulary
        self.row_length, self.seed, self.stream = row_length, seed, stream

    @property
    @abstractmethod
    def num_rows_per_epoch(self) -> int:
        """Rows in which the text of the split appears once."""

    @abstractmethod
    def batch(self, first_row: int, num_rows: int) -> PackedBatch:
        """Return rows as a packed batch of `num_rows * row_length` tokens; rows are counted over all epochs."""
