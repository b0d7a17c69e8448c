"""Collocations and words: what stands together more often than chance is hidden together.

Source: Levine et al. 2021, PMI-Masking, arXiv:2010.01825: the longer collocation wins, overlaps are resolved at random,
    what is left are whole words; all units are as likely.
Departures: what stands in place of a token is drawn for each token, not once for a unit.
"""

from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from scipy.ndimage import maximum_filter1d
from torch import Tensor

from maskwright.core.batches import WORD, PackedBatch
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.collocations import (
    CollocationOptions,
    prepare_collocations,
    read_collocations,
    run_hashes,
    word_hashes,
)
from maskwright.masking.phase_start import PhaseStart
from maskwright.masking.strategies.base import Strategy, StrategyConfig, Units


class Pmi(Strategy):
    """Hides collocations such as "carbon dioxide" whole, other words singly; so no half gives the other away."""

    citation = "Levine et al. 2021, PMI-Masking: Principled masking of correlated spans, arXiv:2010.01825"
    needs_words = True
    needs_begin = True

    class Config(CollocationOptions, StrategyConfig):
        """Options of `pmi`."""

        collocations: str | None = Field(
            default=None,
            description="a list that was made before; default: that of the corpus, found when training begins",
        )

    def __init__(self, config: Config, vocabulary: Vocabulary) -> None:
        """Read a list that was made before: it may be a phase's that comes after hours of others.

        Raises:
            CorpusError: the list is missing, damaged or of another tokenizer.
        """
        super().__init__(config, vocabulary)
        self._path = Path(config.collocations) if config.collocations else None
        self._options = CollocationOptions.model_validate(config.model_dump(exclude={"collocations"}))
        self._keys_by_length: dict[int, np.ndarray] = {}
        # A vocabulary without a checksum stands in for a tokenizer that is not there yet.
        if self._path is not None and vocabulary.sha256:
            self._read(self._path)

    def begin(self, start: PhaseStart) -> None:
        """Read the collocations of the corpus, where no other list was asked for; find them if need be."""
        if self._path is not None:
            return
        if start.ranks.is_first:
            prepare_collocations(start.corpus, self._options)
        start.ranks.wait()
        self._read(prepare_collocations(start.corpus, self._options))

    def _read(self, path: Path) -> None:
        self.use([each.words for each in read_collocations(path, self.vocabulary.sha256)])

    def use(self, collocations: list[tuple[tuple[int, ...], ...]]) -> None:
        """Take these collocations, each as token ids of its words."""
        by_length: dict[int, list[list[np.uint64]]] = {}
        for words in collocations:
            tokens = np.concatenate([np.asarray(word) for word in words])
            starts = np.zeros(len(tokens), bool)
            starts[np.cumsum([0, *(len(word) for word in words[:-1])])] = True
            by_length.setdefault(len(words), []).append(list(word_hashes(tokens, starts)))
        self._keys_by_length = {
            length: np.unique(run_hashes(np.array(hashes, np.uint64))) for length, hashes in by_length.items()
        }

    def units(self, batch: PackedBatch, is_text_T: Tensor, generator: torch.Generator, progress: float) -> Units:
        """Make units of the collocations in the batch and of the words between them."""
        is_start = (batch.marks[WORD] | ~is_text_T).numpy().copy()
        is_start[0] = True
        starts = np.flatnonzero(is_start)
        hashes = word_hashes(batch.token_ids_T.numpy(), is_start)
        sequence = batch.layout.sequence_index_T.numpy()[starts]
        is_free = is_text_T.numpy()[starts].copy()
        priorities = torch.rand(len(starts), generator=generator, dtype=torch.float64).numpy()
        for length in sorted(self._keys_by_length, reverse=True):
            for first in _chosen(hashes, is_free, sequence, self._keys_by_length[length], length, priorities):
                is_start[starts[first[:, None] + np.arange(1, length)].ravel()] = False
        return Units(torch.from_numpy(is_start))


def _chosen(
    hashes: np.ndarray,
    is_free: np.ndarray,
    sequence: np.ndarray,
    keys: np.ndarray,
    length: int,
    priorities: np.ndarray,
):
    """Yield the first words of collocations of one length that don't overlap; takes their words from `is_free`."""
    num_windows = len(hashes) - length + 1
    if num_windows <= 0:
        return
    windows = np.lib.stride_tricks.sliding_window_view
    is_candidate = np.isin(run_hashes(windows(hashes, length)), keys)
    is_candidate &= sequence[:num_windows] == sequence[length - 1 :]
    while (is_candidate := is_candidate & windows(is_free, length).all(axis=1)).any():
        # Of candidates that overlap, the one with the highest priority among its neighbours stays.
        values = np.where(is_candidate, priorities[:num_windows], -1.0)
        first = np.flatnonzero(
            is_candidate & (values == maximum_filter1d(values, 2 * length - 1, mode="constant", cval=-1))
        )
        is_free[(first[:, None] + np.arange(length)).ravel()] = False
        yield first
