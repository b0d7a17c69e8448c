"""Segments: every token once, from the documents' starts, in the same batches every time."""

import numpy as np
import pytest

from maskwright.batching.segments import Segments
from maskwright.core.batches import PackedBatch
from maskwright.corpus.corpus import Corpus


def token_numbers(batch: PackedBatch, corpus: Corpus) -> np.ndarray:
    """Return the number in the train split of each text token of a batch."""
    sequence_T = batch.layout.sequence_index_T.long()
    document_T = batch.document_ids_S[sequence_T]
    is_text_T = ~np.isin(batch.token_ids_T.numpy(), corpus.vocabulary.special_ids) & (document_T >= 0).numpy()
    places_T = batch.document_starts_S[sequence_T] + batch.layout.position_ids_T - 1
    return (corpus.split("train").first_tokens[document_T.clamp_min(0)] + places_T.numpy())[is_text_T]


@pytest.mark.parametrize("batch_tokens", [16, 200])
def test_every_token_comes_once(corpus: Corpus, batch_tokens: int) -> None:
    split = corpus.split("train")
    segments = Segments.of(split.document_lengths, 16)
    batches = list(segments.batches(split, corpus.vocabulary, 16, batch_tokens))
    assert segments.num_tokens == split.document_lengths.sum()
    found = np.sort(np.concatenate([token_numbers(batch, corpus) for batch in batches]))
    tokens = split.gather_tokens(
        np.arange(split.num_documents), np.zeros(split.num_documents, np.int64), split.document_lengths
    ).token_ids
    assert np.array_equal(found, np.flatnonzero(~np.isin(tokens, corpus.vocabulary.special_ids)))
    assert all(len(batch.token_ids_T) <= max(16, batch_tokens) for batch in batches)


def test_the_order_of_tokens_does_not_depend_on_the_size_of_batches(corpus: Corpus) -> None:
    split = corpus.split("train")
    segments = Segments.of(split.document_lengths, 32)
    small, large = (
        np.concatenate([token_numbers(batch, corpus) for batch in segments.batches(split, corpus.vocabulary, 32, size)])
        for size in (32, 4096)
    )
    assert np.array_equal(small, large)


def test_segments_begin_at_the_starts_of_documents() -> None:
    segments = Segments.of(np.array([3, 14, 15, 29]), 16)
    assert segments.documents.tolist() == [0, 1, 2, 2, 3, 3, 3]
    assert segments.starts.tolist() == [0, 0, 0, 14, 0, 14, 28]
    assert segments.lengths.tolist() == [3, 14, 14, 1, 14, 14, 1]


def test_a_sample_is_spread_over_the_whole_corpus() -> None:
    segments = Segments.of(np.full(1000, 10), 16)
    means = [segments.sample(1000, np.random.default_rng(seed)).documents.mean() for seed in range(20)]
    assert segments.sample(1000, np.random.default_rng(0)).num_tokens == 1000
    assert abs(np.mean(means) - 499.5) < 4 * 288 / np.sqrt(100 * 20)
    assert segments.sample(10_000, np.random.default_rng(0)) is segments
