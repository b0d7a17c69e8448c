"""Packing of questions, the order of training, and cutting into passes."""

import numpy as np
import pytest

from maskwright.core.errors import EvaluationError
from maskwright.evaluation.fine_tuning.encoding import TokenSequences
from maskwright.evaluation.fine_tuning.questions import Questions, SequenceOrder, cut_into_passes, require_rows

SIZES = np.array([5, 1, 40, 7, 12], dtype=np.int64)


def questions_of_two_places() -> Questions:
    """Ask for the first and the last token of each sequence; tokens are numbered, targets are the tokens."""
    token_ids = np.arange(100, 100 + SIZES.sum())
    sequences = TokenSequences(token_ids, np.zeros_like(token_ids), SIZES)
    asked = np.stack([np.zeros_like(SIZES), SIZES - 1], axis=1).ravel()
    targets = token_ids[np.repeat(sequences.starts, 2) + asked]
    return Questions(sequences, asked, np.full(len(SIZES), 2), targets)


@pytest.mark.parametrize("chosen", [[0, 1, 2, 3, 4], [4, 2], [3], [1, 0, 4]])
def test_asked_places_are_found_in_the_packed_batch(chosen):
    batch = questions_of_two_places().batch(np.array(chosen), pad_id=7, longest_row=64)
    assert batch.packed.token_ids_T[batch.positions_M].equal(batch.targets)
    assert batch.sequence_index_M.tolist() == [index for index in range(len(chosen)) for _ in range(2)]
    assert batch.num_sequences == len(chosen)
    assert batch.packed.num_real_tokens == SIZES[chosen].sum()
    assert batch.packed.layout.row_length % 32 == 0


def test_rows_do_not_outgrow_the_model():
    assert questions_of_two_places().batch(np.array([2]), 7, longest_row=40).packed.layout.row_length == 40


def test_every_epoch_holds_every_sequence_once_in_an_order_of_its_own():
    order = SequenceOrder(num_sequences=10, batch_size=4, seed=3)
    epochs = [np.concatenate([order.step(3 * epoch + step) for step in range(3)]) for epoch in range(2)]
    assert [len(order.step(step)) for step in range(3)] == [4, 4, 2]
    for epoch in epochs:
        assert sorted(epoch) == list(range(10))
    assert not np.array_equal(*epochs)
    assert np.array_equal(SequenceOrder(10, 4, 3).step(4), order.step(4))
    assert not np.array_equal(SequenceOrder(10, 4, 4).step(4), order.step(4))


@pytest.mark.parametrize("max_tokens", [1, 6, 20, 1000])
def test_passes_lose_nothing_and_keep_their_limit(max_tokens):
    chosen = np.array([3, 0, 2, 4, 1])
    parts = list(cut_into_passes(SIZES, chosen, max_tokens))
    assert np.concatenate(parts).tolist() == chosen.tolist()
    assert all(SIZES[part[1:]].sum() <= max_tokens for part in parts)


def test_an_empty_split_is_refused():
    empty = np.zeros(0, dtype=np.int64)
    with pytest.raises(EvaluationError, match=r"file\.tsv has no example"):
        require_rows(Questions(TokenSequences(empty, empty, empty), empty, empty, empty), "file.tsv")
