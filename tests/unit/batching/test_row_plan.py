"""Packing by lengths: nothing lost, nothing over the end of a row, little padding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.batching.row_plan import NUM_SPECIALS, Pieces, RowPlan, pack_whole

lengths = st.lists(st.integers(1, 300), min_size=1, max_size=60).map(lambda some: np.array(some, dtype=np.int64))


def coverage(pieces: Pieces) -> dict[int, list[tuple[int, int]]]:
    """Return the covered ranges of each document, in order."""
    found: dict[int, list[tuple[int, int]]] = {}
    for document, start, length in zip(pieces.documents, pieces.starts, pieces.lengths, strict=True):
        found.setdefault(int(document), []).append((int(start), int(start + length)))
    return {document: sorted(ranges) for document, ranges in found.items()}


@settings(max_examples=150, deadline=None)
@given(lengths, st.sampled_from([8, 16, 33, 128]), st.booleans(), st.integers(0, 9))
def test_every_token_is_in_exactly_one_row_and_no_row_overflows(document_lengths, row_length, may_cut, seed):
    plan = RowPlan(document_lengths, row_length, may_cut)
    pieces = plan.assign(np.random.default_rng(seed))
    assert pieces.num_rows == plan.num_rows
    for document, ranges in coverage(pieces).items():
        ends = [0, *(end for _, end in ranges)]
        assert [begin for begin, _ in ranges] == ends[:-1]
        assert ends[-1] == document_lengths[document]
    assert len(coverage(pieces)) == len(document_lengths)
    assert pieces.lengths.min() > 0
    filled = np.add.reduceat(pieces.lengths + NUM_SPECIALS, pieces.row_starts[:-1])
    assert filled.max() <= row_length


@settings(max_examples=50, deadline=None)
@given(lengths, st.sampled_from([16, 64]))
def test_documents_that_fit_stay_whole_when_cutting_is_off(document_lengths, row_length):
    pieces = RowPlan(document_lengths, row_length, may_cut=False).assign(np.random.default_rng(0))
    for document, ranges in coverage(pieces).items():
        room = row_length - NUM_SPECIALS
        assert len(ranges) == -(-document_lengths[document] // room)


@pytest.mark.parametrize("row_length", [64, 128, 512])
@pytest.mark.parametrize("kind", ["long", "short", "sentences"])
def test_at_least_99_percent_of_the_tokens_are_real(kind, row_length):
    generator = np.random.default_rng(0)
    median, spread = {"long": (7, 1.0), "short": (4, 1.2), "sentences": (3, 0.5)}[kind]
    document_lengths = generator.lognormal(median, spread, 20_000).astype(np.int64) + 1
    plan = RowPlan(document_lengths, row_length)
    pieces = plan.assign(generator)
    assert (pieces.lengths + NUM_SPECIALS).sum() >= 0.99 * plan.num_rows * row_length


def test_epochs_differ_in_order_and_in_where_documents_are_cut():
    document_lengths = np.random.default_rng(0).integers(1, 200, 300)
    plan = RowPlan(document_lengths, 32)
    one, other = (plan.assign(np.random.default_rng(seed)) for seed in (1, 2))
    assert one.num_rows == other.num_rows
    assert not np.array_equal(one.documents, other.documents)
    assert coverage(one) != coverage(other)


@given(st.lists(st.integers(1, 14), min_size=1, max_size=40))
def test_whole_sequences_are_packed_once_each(sequence_lengths):
    packed = pack_whole(np.array(sequence_lengths), 16)
    assert sorted(packed.documents.tolist()) == list(range(len(sequence_lengths)))
    filled = np.add.reduceat(packed.lengths + NUM_SPECIALS, packed.row_starts[:-1])
    assert filled.max() <= 16
