"""Puts pieces of documents into a `PackedBatch`: specials, positions, layout; vectorised, no Python per token."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from maskwright.batching.row_plan import NUM_SPECIALS, Pieces, pack_whole
from maskwright.core.batches import NO_LABEL, WORD, EncoderInput, PackedBatch, SequenceLayout
from maskwright.core.ranges import expand_ranges
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.marks import MarkedTokens


def assemble(pieces: Pieces, tokens: MarkedTokens, vocabulary: Vocabulary, row_length: int) -> PackedBatch:
    """Lay pieces into rows, each as a sequence `[CLS] piece [SEP]`.

    Args:
        pieces: what lies in each row; rows may be left unfilled.
        tokens: those of all pieces, one piece after the other.
        vocabulary: gives the special tokens.
        row_length: tokens in a row.
    """
    begins = _begins(pieces, row_length)
    token_ids_T, marks_T = _lay_out(
        [(begins + 1, pieces.lengths, tokens)], pieces.num_rows * row_length, vocabulary.pad_id
    )
    token_ids_T[begins] = vocabulary.cls_id
    token_ids_T[begins + pieces.lengths + 1] = vocabulary.sep_id
    return _packed(pieces, row_length, token_ids_T, np.zeros_like(token_ids_T), marks_T)


def assemble_pairs(
    pieces: Sequence[Pieces],
    tokens: Sequence[MarkedTokens],
    labels_R: np.ndarray,
    vocabulary: Vocabulary,
    row_length: int,
) -> PackedBatch:
    """Lay two pieces into each row, `[CLS] first [SEP] second [SEP]`, the second as segment 1.

    Args:
        pieces: the first ones and the second ones, one of each a row.
        tokens: in step with `pieces`.
        labels_R: int64 [rows], what is to be known of each pair.
        vocabulary: gives the special tokens.
        row_length: tokens in a row.
    """
    first, second = pieces
    # The [SEP] between the two counts as a token of one long piece.
    both = replace(first, lengths=first.lengths + 1 + second.lengths)
    begins = _begins(both, row_length)
    second_begins = begins + 2 + first.lengths
    laid = [(begins + 1, first.lengths, tokens[0]), (second_begins, second.lengths, tokens[1])]
    token_ids_T, marks_T = _lay_out(laid, both.num_rows * row_length, vocabulary.pad_id)
    token_ids_T[begins] = vocabulary.cls_id
    token_ids_T[second_begins - 1] = token_ids_T[second_begins + second.lengths] = vocabulary.sep_id
    segment_ids_T = np.zeros_like(token_ids_T)
    segment_ids_T[expand_ranges(second_begins, second.lengths + 1)] = 1
    batch = _packed(both, row_length, token_ids_T, segment_ids_T, marks_T)
    labels_S = batch.labels_S.clone()
    labels_S[batch.document_ids_S >= 0] = torch.from_numpy(labels_R)
    return replace(batch, labels_S=labels_S, num_text_tokens=batch.num_text_tokens - both.num_rows)


def _lay_out(
    groups: Sequence[tuple[np.ndarray, np.ndarray, MarkedTokens]], num_tokens: int, pad_id: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Put the tokens of pieces where these begin, int64 [T], and their marks, bool [T] by name.

    Args:
        groups: where in the batch each piece begins, how long it is, and the tokens of all, one piece after the other.
        num_tokens: T.
        pad_id: stands everywhere else.
    """
    token_ids_T = np.full(num_tokens, pad_id, dtype=np.int64)
    # Special tokens and padding begin a word each, and nothing else.
    marks_T = {mark: np.full(num_tokens, mark == WORD) for mark in groups[0][2].marks}
    for begins, lengths, tokens in groups:
        position = expand_ranges(begins, lengths)
        token_ids_T[position] = tokens.token_ids
        for mark, starts in tokens.marks.items():
            marks_T[mark][position] = starts
        # A piece that begins inside a word begins a word of its own: the rest of that word is not in the sequence.
        marks_T[WORD][begins[lengths > 0]] = True
    return token_ids_T, marks_T


def pack_complete(
    token_ids: np.ndarray, segment_ids: np.ndarray, sizes: np.ndarray, pad_id: int, row_length: int
) -> PackedBatch:
    """Pack sequences that have their special tokens already, as a tokenizer made them.

    Args:
        token_ids: int64, the tokens of all sequences, one sequence after the other.
        segment_ids: int64, token types, in step with `token_ids`.
        sizes: int64 [B], tokens of each sequence, each at least 1 and at most `row_length`.
        pad_id: fills the end of rows.
        row_length: tokens in a row.

    Returns:
        A batch whose `document_ids_S` are indices into `sizes`; every token begins a word.
    """
    pieces = pack_whole(sizes - NUM_SPECIALS, row_length)
    position = expand_ranges(_begins(pieces, row_length), sizes[pieces.documents])
    source = expand_ranges((np.cumsum(sizes) - sizes)[pieces.documents], sizes[pieces.documents])
    token_ids_T = np.full(pieces.num_rows * row_length, pad_id, dtype=np.int64)
    token_ids_T[position] = token_ids[source]
    segment_ids_T = np.zeros_like(token_ids_T)
    segment_ids_T[position] = segment_ids[source]
    return _packed(pieces, row_length, token_ids_T, segment_ids_T, {WORD: np.ones(len(token_ids_T), dtype=bool)})


def _begins(pieces: Pieces, row_length: int) -> np.ndarray:
    """Return the position of each piece's first token (its [CLS]) in the batch; int64 [P]."""
    sizes = pieces.lengths + NUM_SPECIALS
    before = np.concatenate([[0], np.cumsum(sizes)])
    row_of_piece = np.repeat(np.arange(pieces.num_rows), np.diff(pieces.row_starts))
    return row_of_piece * row_length + before[:-1] - before[pieces.row_starts[:-1]][row_of_piece]


def _packed(
    pieces: Pieces,
    row_length: int,
    token_ids_T: np.ndarray,
    segment_ids_T: np.ndarray,
    marks_T: Mapping[str, np.ndarray],
) -> PackedBatch:
    """Add positions and layout to packed tokens."""
    num_tokens = len(token_ids_T)
    sizes = pieces.lengths + NUM_SPECIALS
    starts, documents, document_starts = _with_padding(_begins(pieces, row_length), sizes, pieces, row_length)
    lengths = np.diff(starts)
    sequence_index_T = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    layout = SequenceLayout(
        sequence_starts=torch.from_numpy(starts.astype(np.int32)),
        sequence_index_T=torch.from_numpy(sequence_index_T),
        position_ids_T=torch.from_numpy(np.arange(num_tokens) - np.repeat(starts[:-1], lengths)),
        segment_ids_T=torch.from_numpy(segment_ids_T),
        row_length=row_length,
        max_length=row_length,
        has_contiguous_positions=True,
    )
    return PackedBatch(
        input=EncoderInput(torch.from_numpy(token_ids_T), layout),
        marks={mark: torch.from_numpy(starts_T) for mark, starts_T in marks_T.items()},
        document_ids_S=torch.from_numpy(documents),
        document_starts_S=torch.from_numpy(document_starts),
        num_real_tokens=int(sizes.sum()),
        num_text_tokens=int(pieces.lengths.sum()),
        labels_S=torch.full((len(documents),), NO_LABEL),
    )


def _with_padding(
    begins: np.ndarray, sizes: np.ndarray, pieces: Pieces, row_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the starts (S + 1) of all sequences, runs of padding included, their documents and where in those (S).

    S is rounded up to a power of two by sequences of length 0 at the end, so that kernels which take the starts see
    few different shapes.
    """
    row_ends = (np.arange(pieces.num_rows) + 1) * row_length
    size_sums = np.concatenate([[0], np.cumsum(sizes)])[pieces.row_starts]
    filled_to = row_ends - row_length + np.diff(size_sums)
    padded_rows = filled_to < row_ends
    starts = np.concatenate([begins, filled_to[padded_rows]])
    num_padded = int(padded_rows.sum())
    documents = np.concatenate([pieces.documents, np.full(num_padded, -1)])
    document_starts = np.concatenate([pieces.starts, np.zeros(num_padded, np.int64)])
    order = np.argsort(starts, kind="stable")
    num_tokens = pieces.num_rows * row_length
    num_sequences = 1 << max(0, len(starts) - 1).bit_length()
    num_unused = num_sequences - len(starts)
    return (
        np.concatenate([starts[order], np.full(num_unused + 1, num_tokens)]),
        np.concatenate([documents[order], np.full(num_unused, -1)]),
        np.concatenate([document_starts[order], np.zeros(num_unused, np.int64)]),
    )


def pack_sequences(sequences: Sequence[np.ndarray], vocabulary: Vocabulary, row_length: int) -> PackedBatch:
    """Pack token sequences, each whole, into one batch (for scoring, where sequences are given).

    Args:
        sequences: token ids without specials, each at most `row_length - 2` long.
        vocabulary: gives the special tokens.
        row_length: tokens in a row.

    Returns:
        A batch whose `document_ids_S` are indices into `sequences`.
    """
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    pieces = pack_whole(lengths, row_length)
    token_ids = np.concatenate([np.asarray(sequences[index], dtype=np.int64) for index in pieces.documents])
    tokens = MarkedTokens(token_ids, {WORD: np.ones(len(token_ids), dtype=bool)})
    return assemble(pieces, tokens, vocabulary, row_length)


def stack_sequences(token_ids_SN: np.ndarray, vocabulary: Vocabulary) -> PackedBatch:
    """Lay sequences of one length into rows exactly as long, so that nothing is padded (for scoring many short ones).

    Args:
        token_ids_SN: int64 [S, N], token ids without specials.
        vocabulary: gives the special tokens.

    Returns:
        The batch that `pack_sequences` would make of rows of N + 2 tokens, with its sequences in the given order.
    """
    num_sequences, row_length = token_ids_SN.shape[0], token_ids_SN.shape[1] + NUM_SPECIALS
    framed_SL = np.empty((num_sequences, row_length), dtype=np.int64)
    framed_SL[:, 0], framed_SL[:, 1:-1], framed_SL[:, -1] = vocabulary.cls_id, token_ids_SN, vocabulary.sep_id
    sequences = torch.arange(num_sequences)
    num_tokens = num_sequences * row_length
    layout = SequenceLayout(
        sequence_starts=torch.arange(0, num_tokens + 1, row_length, dtype=torch.int32),
        sequence_index_T=sequences.int().repeat_interleave(row_length),
        position_ids_T=torch.arange(row_length).repeat(num_sequences),
        segment_ids_T=torch.zeros(num_tokens, dtype=torch.int64),
        row_length=row_length,
        max_length=row_length,
        one_sequence_per_row=True,
        has_contiguous_positions=True,
    )
    return PackedBatch(
        input=EncoderInput(torch.from_numpy(framed_SL).flatten(), layout),
        marks={WORD: torch.ones(num_tokens, dtype=torch.bool)},
        document_ids_S=sequences,
        document_starts_S=torch.zeros_like(sequences),
        num_real_tokens=num_tokens,
        num_text_tokens=num_tokens - NUM_SPECIALS * num_sequences,
        labels_S=torch.full_like(sequences, NO_LABEL),
    )
