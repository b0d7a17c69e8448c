"""The cross-entropy in pieces is that of all logits at once, and its memory does not grow with the batch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from maskwright.core.batches import UNUSED
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders import build_config
from maskwright.heads import cross_entropy
from maskwright.heads.cross_entropy import (
    MOST_LOGITS_BYTES,
    as_slots,
    chunked_cross_entropy,
    fastest_way,
    has_torchs_cross_entropy,
    is_small,
    logits_bytes,
    losses_of_logits,
    rows_of_piece,
)
from maskwright.heads.token_head import TokenHead
from maskwright.heads.vocabulary import VocabularyHead

V, D, M = 50, 8, 30


@pytest.fixture
def small_pieces(monkeypatch):
    """Make five pieces of thirty slots, and call no logits small."""
    monkeypatch.setattr(cross_entropy, "MOST_ROWS", 7)
    monkeypatch.setattr("maskwright.heads.decoder.is_small", lambda *_: False)


def drawn(dtype=torch.float64, has_bias=True) -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(M, D), (V, D), *([(V,)] if has_bias else [])]
    values = [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]
    target_ids_M = torch.randint(V, (M,), generator=generator)
    target_ids_M[[3, M - 1]] = UNUSED
    return values, target_ids_M


@pytest.mark.parametrize("has_bias", [True, False])
def test_loss_and_gradients_are_those_of_all_logits(small_pieces, has_bias):
    values, target_ids_M = drawn(has_bias=has_bias)
    x_MD, embedding_VE, *bias = values
    logits_MV = F.linear(x_MD, embedding_VE, *bias)
    expected = F.cross_entropy(logits_MV, target_ids_M, ignore_index=UNUSED, reduction="sum")
    found = chunked_cross_entropy(x_MD, embedding_VE, bias[0] if bias else None, *as_slots(target_ids_M))
    torch.testing.assert_close(found.total, expected, atol=1e-9, rtol=0)
    for mine, theirs in zip(
        torch.autograd.grad(0.3 * found.total, values), torch.autograd.grad(0.3 * expected, values), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)
        assert mine.abs().max() > 0.01
    is_used = target_ids_M != UNUSED
    assert torch.equal(found.is_correct_M[is_used], (logits_MV.argmax(1) == target_ids_M)[is_used])
    each = F.cross_entropy(logits_MV, target_ids_M, ignore_index=UNUSED, reduction="none")
    torch.testing.assert_close(found.losses_M, each.detach())
    assert not found.losses_M.requires_grad


def test_several_weighted_targets_are_a_soft_target(small_pieces):
    (x_MD, embedding_VE, bias_V), _ = drawn()
    generator = torch.Generator().manual_seed(1)
    ids_MK = torch.stack([torch.randperm(V, generator=generator)[:3] for _ in range(M)])
    ids_MK[0, 1] = ids_MK[0, 0]  # the same token twice: its weights add up
    weights_MK = torch.rand((M, 3), generator=generator, dtype=torch.float64)
    weights_MK[5] = 0
    soft_MV = torch.zeros((M, V), dtype=torch.float64).scatter_add(1, ids_MK, weights_MK)
    logits_MV = F.linear(x_MD, embedding_VE, bias_V)
    expected = F.cross_entropy(logits_MV, soft_MV, reduction="sum")
    for found in (
        chunked_cross_entropy(x_MD, embedding_VE, bias_V, ids_MK, weights_MK),
        losses_of_logits(logits_MV, ids_MK, weights_MK),
    ):
        torch.testing.assert_close(found.total, expected)
        for mine, theirs in zip(
            torch.autograd.grad(found.total, (x_MD, embedding_VE, bias_V), retain_graph=True),
            torch.autograd.grad(expected, (x_MD, embedding_VE, bias_V), retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(mine, theirs)


def head_and_embedding() -> tuple[VocabularyHead, torch.Tensor]:
    vocabulary = Vocabulary(V, 0, 1, 2, 3, 4, (0, 1, 2, 3, 4), "0")
    shape = {"num_layers": 2, "hidden_size": D, "num_heads": 2, "feed_forward_size": 32}
    head = VocabularyHead(build_config("bert", None, shape, vocabulary, 32), seed=1)
    return head, torch.randn((V, D), generator=torch.Generator().manual_seed(2)).requires_grad_()


def gradients(head, x_MD, embedding_VE, target_ids_M, is_autocast=False) -> list[torch.Tensor]:
    parameters = [x_MD, embedding_VE, *head.parameters()]
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        total = head.cross_entropy(x_MD, target_ids_M, embedding_VE)
    return [total.detach(), *torch.autograd.grad(total, parameters)]


@pytest.mark.parametrize("way", ["own", "torch"])
@pytest.mark.parametrize("is_autocast", [False, True])
def test_the_head_gives_the_same_whichever_way(monkeypatch, small_pieces, way, is_autocast):
    if way == "torch" and not has_torchs_cross_entropy():
        pytest.skip("this torch has no linear_cross_entropy")
    head, embedding_VE = head_and_embedding()
    (x_MD, *_), target_ids_M = drawn(torch.float32)
    head.decoder.use_cross_entropy(way)
    found = gradients(head, x_MD, embedding_VE, target_ids_M, is_autocast)
    monkeypatch.setattr("maskwright.heads.decoder.is_small", lambda *_: True)
    expected = gradients(head, x_MD, embedding_VE, target_ids_M)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        tolerance = 0.05 * float(theirs.abs().max()) if is_autocast else 1e-5 * float(theirs.abs().max())
        torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=0)


def test_two_calls_give_the_same_bits(small_pieces):
    head, embedding_VE = head_and_embedding()
    (x_MD, *_), target_ids_M = drawn(torch.float32)
    first, second = (gradients(head, x_MD, embedding_VE, target_ids_M, True) for _ in range(2))
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))


@pytest.mark.parametrize("is_autocast", [False, True])
def test_it_is_one_graph(small_pieces, is_autocast):
    torch._dynamo.reset()
    head, embedding_VE = head_and_embedding()
    head.decoder.use_cross_entropy("torch")  # can't be compiled: ours stands in
    (x_MD, *_), target_ids_M = drawn(torch.float32)

    def loss() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
            return head.cross_entropy(x_MD, target_ids_M, embedding_VE)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    head.decoder.use_cross_entropy("own")
    torch.testing.assert_close(compiled(), loss(), atol=0.1 if is_autocast else 1e-4, rtol=0)
    mine, theirs = torch.autograd.grad(compiled(), embedding_VE)[0], torch.autograd.grad(loss(), embedding_VE)[0]
    torch.testing.assert_close(mine, theirs, atol=2e-2 if is_autocast else 1e-5, rtol=0)


def test_torch_s_own_checks_of_the_operator():
    (x_MD, embedding_VE, bias_V), target_ids_M = drawn(torch.float32)
    ids_MK, weights_MK = as_slots(target_ids_M)
    arguments = (x_MD, embedding_VE, bias_V, ids_MK, weights_MK, torch.float32, True)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(cross_entropy._in_pieces, arguments, test_utils=checks)


def test_without_gradients_none_are_made(small_pieces, monkeypatch):
    (x_MD, embedding_VE, bias_V), target_ids_M = drawn(torch.float32)
    with torch.no_grad():
        result = cross_entropy._in_pieces(x_MD, embedding_VE, bias_V, *as_slots(target_ids_M), torch.float32, False)
        assert [tensor.numel() for tensor in result[3:]] == [0, 0, 0]
        total = chunked_cross_entropy(x_MD, embedding_VE, bias_V, *as_slots(target_ids_M)).total
    assert not total.requires_grad
    torch.testing.assert_close(total, result[0])


def test_an_empty_batch_has_no_loss():
    (x_MD, embedding_VE, bias_V), target_ids_M = drawn(torch.float32)
    found = chunked_cross_entropy(x_MD[:0], embedding_VE, bias_V, *as_slots(target_ids_M[:0]))
    assert float(found.total.detach()) == 0
    assert torch.autograd.grad(found.total, embedding_VE)[0].abs().sum() == 0


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("vocabulary_size", [1_000, 16_384, 50_368, 256_000])
def test_memory_stays_within_the_bound_for_any_batch(vocabulary_size, device):
    for num_slots in (1, 100, 1_000, 10_000, 1_000_000):
        for compiled in (False, True):
            assert logits_bytes(num_slots, vocabulary_size, device, compiled) <= MOST_LOGITS_BYTES
        rows = rows_of_piece(num_slots, vocabulary_size, device)
        pieces = [min(rows, num_slots - begin) for begin in range(0, num_slots, rows)]
        assert sum(pieces) == num_slots and min(pieces) > 0
    assert is_small(100, 1_000, device) and not is_small(10_000, 50_368, device)


def test_no_piece_has_more_logits_than_foreseen(small_pieces, monkeypatch):
    """The largest tensor that is made holds the logits of one piece, or is a gradient."""
    largest, linear = [], F.linear

    def noting(*arguments):
        largest.append(linear(*arguments))
        return largest[-1]

    monkeypatch.setattr(F, "linear", noting)
    (x_MD, embedding_VE, bias_V), target_ids_M = drawn(torch.float32)
    chunked_cross_entropy(x_MD, embedding_VE, bias_V, *as_slots(target_ids_M))
    assert [tensor.shape for tensor in largest] == [(6, V)] * 5


def test_the_probe_measures_only_where_there_is_a_choice(monkeypatch):
    def way(dtype, num_slots, compiled=False):
        return fastest_way(torch.device("cpu"), dtype, num_slots, 1_000, 16, compiled)

    monkeypatch.setattr(cross_entropy, "TIMED_FLOPS", 1e6)
    assert way(torch.float32, 100) == "whole"
    assert way(torch.float32, 20_000) in ("own", "torch")
    assert way(torch.bfloat16, 20_000) == "own"
    assert way(torch.float32, 20_000, compiled=True) == "whole"
    assert way(torch.float32, 60_000, compiled=True) == "own"
    monkeypatch.setattr(cross_entropy, "has_torchs_cross_entropy", lambda: False)
    assert way(torch.float32, 20_000) == "own"


def test_a_head_that_has_logits_alone_is_asked_for_them():
    class Bare(TokenHead):
        def __init__(self):
            super().__init__()
            self.decoder = nn.Linear(D, V, dtype=torch.float64)

        def forward(self, x_MD, embedding_VE):
            return self.decoder(x_MD)

    (x_MD, embedding_VE, _), target_ids_M = drawn()
    head = Bare()
    expected = F.cross_entropy(head.decoder(x_MD), target_ids_M, ignore_index=UNUSED, reduction="sum")
    torch.testing.assert_close(head.cross_entropy(x_MD, target_ids_M, embedding_VE), expected)
