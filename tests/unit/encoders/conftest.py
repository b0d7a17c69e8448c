"""A small vocabulary, and batches of random documents."""

from collections.abc import Callable

import numpy as np
import pytest

from maskwright.batching.pack import pack_sequences
from maskwright.core.batches import PackedBatch
from maskwright.core.vocabulary import Vocabulary


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary(100, pad_id=0, cls_id=1, sep_id=2, mask_id=3, unk_id=4, special_ids=(0, 1, 2, 3, 4), sha256="0")


@pytest.fixture
def random_batch(vocabulary: Vocabulary) -> Callable[..., PackedBatch]:
    def make(lengths: list[int], row_length: int = 48, seed: int = 0) -> PackedBatch:
        generator = np.random.default_rng(seed)
        documents = [generator.integers(5, vocabulary.size, length) for length in lengths]
        return pack_sequences(documents, vocabulary, row_length)

    return make
