"""The stream of rows is a function of (seed, row number) alone."""

import numpy as np
import torch

from maskwright.batching.loader import Loader
from maskwright.batching.row_stream import RowStream


def stream(corpus, **options) -> RowStream:
    return RowStream(corpus.split("train"), corpus.vocabulary, 32, **{"seed": 7, **options})


def test_rows_can_be_read_in_any_order(corpus):
    forwards, backwards = stream(corpus), stream(corpus)
    last = 3 * forwards.num_rows_per_epoch
    numbers = range(0, last, 5)
    read_forwards = {n: forwards.batch(n, 3).token_ids_T for n in numbers}
    for n in reversed(numbers):
        assert torch.equal(read_forwards[n], backwards.batch(n, 3).token_ids_T)


def test_an_epoch_holds_every_token_once_and_the_next_one_in_another_order(corpus):
    rows = stream(corpus)
    first, second = (rows.pieces(epoch * rows.num_rows_per_epoch, rows.num_rows_per_epoch) for epoch in (0, 1))
    assert first.lengths.sum() == second.lengths.sum() == corpus.split("train").document_lengths.sum()
    assert not np.array_equal(first.documents, second.documents)


def test_seeds_and_streams_give_other_orders(corpus):
    reference = stream(corpus).batch(0, 8).token_ids_T
    assert torch.equal(reference, stream(corpus).batch(0, 8).token_ids_T)
    assert not torch.equal(reference, stream(corpus, seed=8).batch(0, 8).token_ids_T)
    assert not torch.equal(reference, stream(corpus, stream=1).batch(0, 8).token_ids_T)


def test_the_loader_gives_what_the_function_gives_and_passes_its_errors_on():
    loader = Loader(lambda step: 10 // (7 - step), first_step=3, end_step=9)
    assert [loader.take() for _ in range(4)] == [2, 3, 5, 10]
    try:
        loader.take()
    except ZeroDivisionError:
        pass
    else:
        raise AssertionError("the error was swallowed")
    loader.close()
