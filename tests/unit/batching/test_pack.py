"""From pieces to a packed batch: specials, positions, layout, word starts."""

import numpy as np
import torch

from maskwright.batching.pack import pack_complete, pack_sequences, stack_sequences
from maskwright.batching.row_stream import RowStream
from maskwright.core.batches import WORD
from maskwright.core.vocabulary import Vocabulary

VOCABULARY = Vocabulary(100, 0, 2, 3, 4, 1, (0, 1, 2, 3, 4), "")


def test_a_small_batch_is_what_one_would_write_by_hand():
    packed = pack_sequences([np.array([11, 12, 13]), np.array([21]), np.array([31, 32])], VOCABULARY, 8)
    assert packed.token_ids_T.tolist() == [2, 11, 12, 13, 3, 2, 21, 3, 2, 31, 32, 3, 0, 0, 0, 0]
    assert packed.layout.position_ids_T.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 0, 1, 2, 3, 0, 1, 2, 3]
    assert packed.layout.sequence_starts.tolist() == [0, 5, 8, 12, 16]
    assert packed.layout.sequence_index_T.tolist() == [0] * 5 + [1] * 3 + [2] * 4 + [3] * 4
    assert packed.document_ids_S.tolist() == [0, 1, 2, -1]
    assert packed.num_real_tokens == 12


def test_sequences_lie_in_the_order_of_the_layout_and_starts_are_padded_to_a_power_of_two():
    packed = pack_sequences([np.arange(10, 10 + size) for size in (6, 3, 3, 1, 1)], VOCABULARY, 8)
    starts = packed.layout.sequence_starts
    assert starts.dtype == torch.int32
    assert len(starts) - 1 == 8
    assert (starts.diff() >= 0).all()
    assert starts[-1] == len(packed.token_ids_T)
    for sequence, document in enumerate(packed.document_ids_S.tolist()):
        tokens = packed.token_ids_T[starts[sequence] : starts[sequence + 1]]
        assert (packed.layout.sequence_index_T[starts[sequence] : starts[sequence + 1]] == sequence).all()
        if document < 0:
            assert (tokens == VOCABULARY.pad_id).all()


def test_complete_sequences_are_packed_as_they_are():
    token_ids = np.array([2, 11, 3, 21, 3, 9, 2, 31, 32, 33, 34, 3])
    segment_ids = np.array([0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    packed = pack_complete(token_ids, segment_ids, np.array([5, 1, 6]), pad_id=0, row_length=8)
    assert packed.token_ids_T.tolist() == [2, 31, 32, 33, 34, 3, 9, 0, 2, 11, 3, 21, 3, 0, 0, 0]
    assert packed.layout.segment_ids_T.tolist() == [0] * 11 + [1, 1] + [0] * 3
    assert packed.layout.position_ids_T.tolist() == [0, 1, 2, 3, 4, 5, 0, 0, 0, 1, 2, 3, 4, 0, 1, 2]
    assert packed.document_ids_S.tolist()[:5] == [2, 1, -1, 0, -1]
    assert packed.num_real_tokens == 12


def test_the_same_sequences_are_packed_the_same_way_with_and_without_their_specials():
    bare = [np.arange(10, 10 + size) for size in (6, 3, 3, 1, 1, 14)]
    whole = [np.concatenate([[2], tokens, [3]]) for tokens in bare]
    sizes = np.array([len(tokens) for tokens in whole])
    ours = pack_complete(np.concatenate(whole), np.zeros(sizes.sum(), dtype=np.int64), sizes, 0, 16)
    theirs = pack_sequences(bare, VOCABULARY, 16)
    for name in ("token_ids_T", "document_ids_S"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert torch.equal(ours.marks[WORD], theirs.marks[WORD])
    for name in ("position_ids_T", "segment_ids_T", "sequence_starts"):
        assert torch.equal(getattr(ours.layout, name), getattr(theirs.layout, name)), name


def test_sequences_of_one_length_are_stacked_as_rows_of_that_length():
    tokens_SN = np.arange(10, 22).reshape(4, 3)
    stacked, packed = stack_sequences(tokens_SN, VOCABULARY), pack_sequences(list(tokens_SN), VOCABULARY, 5)
    assert torch.equal(stacked.marks[WORD], packed.marks[WORD])
    for name in ("token_ids_T", "document_ids_S"):
        expected = getattr(packed, name)
        assert torch.equal(getattr(stacked, name), expected) and getattr(stacked, name).dtype == expected.dtype, name
    for name in ("sequence_starts", "sequence_index_T", "position_ids_T", "segment_ids_T"):
        expected = getattr(packed.layout, name)
        assert torch.equal(getattr(stacked.layout, name), expected)
        assert getattr(stacked.layout, name).dtype == expected.dtype
    assert (stacked.layout.row_length, stacked.num_real_tokens) == (packed.layout.row_length, packed.num_real_tokens)
    assert stacked.layout.one_sequence_per_row


def test_rows_of_a_corpus_hold_its_text(corpus):
    stream = RowStream(corpus.split("train"), corpus.vocabulary, 32, seed=1)
    packed = stream.batch(0, stream.num_rows_per_epoch)
    is_text = ~torch.isin(packed.token_ids_T, torch.tensor(corpus.vocabulary.special_ids))
    counts = np.bincount(packed.token_ids_T[is_text].numpy(), minlength=corpus.vocabulary.size)
    expected = corpus.unigram_counts_V.copy()
    expected[list(corpus.vocabulary.special_ids)] = 0
    assert np.array_equal(counts, expected)


def test_a_piece_begins_a_word_even_where_it_was_cut_inside_one(corpus):
    packed = RowStream(corpus.split("train"), corpus.vocabulary, 16, seed=1).batch(0, 40)
    starts = packed.layout.sequence_starts[:-1].long()
    first_text = starts[packed.document_ids_S >= 0] + 1
    assert packed.marks["word"][first_text].all()
    assert not packed.marks["word"].all()
