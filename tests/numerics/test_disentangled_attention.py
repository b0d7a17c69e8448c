"""Disentangled attention is the equation it comes from, however distances are looked up."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from maskwright.batching.pack import pack_sequences
from maskwright.core.batches import PackedBatch
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders import build_encoder
from maskwright.encoders.disentangled_attention import Offsets, position_bias
from maskwright.encoders.encoder import Encoder
from maskwright.encoders.families.deberta_v2 import log_buckets

NUM_HEADS, HEAD_SIZE, ROW_LENGTH, MAX_POSITIONS = 2, 8, 12, 20
VOCABULARY = Vocabulary(50, pad_id=0, cls_id=1, sep_id=2, mask_id=3, unk_id=4, special_ids=(0, 1, 2, 3, 4), sha256="0")


def batch_of(lengths: list[int]) -> PackedBatch:
    generator = np.random.default_rng(0)
    documents = [generator.integers(5, 50, length) for length in lengths]
    return pack_sequences(documents, VOCABULARY, ROW_LENGTH)


def with_gaps(batch: PackedBatch) -> PackedBatch:
    """Return the batch as if tokens had been dropped between those that are left."""
    generator = torch.Generator().manual_seed(1)
    num_rows = len(batch.token_ids_T) // ROW_LENGTH
    places = [torch.randperm(MAX_POSITIONS, generator=generator)[:ROW_LENGTH].sort().values for _ in range(num_rows)]
    layout = replace(batch.layout, position_ids_T=torch.cat(places), has_contiguous_positions=False)
    return replace(batch, input=replace(batch.input, layout=layout))


def random_inputs(num_tokens: int, num_offsets: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    sizes = [num_tokens, num_tokens, num_offsets, num_offsets]
    return [torch.randn((size, NUM_HEADS, HEAD_SIZE), generator=generator).requires_grad_() for size in sizes]


def by_the_equation(batch: PackedBatch, q: Tensor, k: Tensor, position_k: Tensor, position_q: Tensor) -> Tensor:
    """Q^c_i K^r_(i-j) + K^c_j Q^r_(i-j), pair by pair; the vectors are in the order of the distances."""
    num_rows, middle = len(q) // ROW_LENGTH, len(position_k) // 2
    bias = torch.zeros(num_rows, NUM_HEADS, ROW_LENGTH, ROW_LENGTH)
    position = batch.layout.position_ids_T.tolist()
    for row in range(num_rows):
        for i in range(ROW_LENGTH):
            for j in range(ROW_LENGTH):
                one, other = row * ROW_LENGTH + i, row * ROW_LENGTH + j
                distance = middle + position[one] - position[other]
                if not 0 <= distance < len(position_k):
                    distance = middle + i - j  # of another sequence: nobody looks
                bias[row, :, i, j] = (q[one] * position_k[distance] + k[other] * position_q[distance]).sum(-1)
    return bias


@pytest.mark.parametrize("has_gaps", [False, True])
def test_the_bias_is_the_equation_in_values_and_gradients(has_gaps: bool) -> None:
    batch = batch_of([10, 10, 10])
    batch = with_gaps(batch) if has_gaps else batch
    offsets = Offsets(batch.layout, MAX_POSITIONS)
    assert len(offsets.offset_W) == 2 * (MAX_POSITIONS if has_gaps else ROW_LENGTH) - 1
    inputs = random_inputs(len(batch.token_ids_T), len(offsets.offset_W))
    expected, got = by_the_equation(batch, *inputs), position_bias(offsets, *inputs)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn(got.shape, generator=torch.Generator().manual_seed(3))
    for ours, theirs in zip(
        torch.autograd.grad((got * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


def deberta(family: str, **overrides: object) -> Encoder:
    shape = {"num_layers": 2, "hidden_size": 16, "num_heads": NUM_HEADS, "feed_forward_size": 24}
    return build_encoder(family, None, shape | {"initializer_range": 0.3} | overrides, VOCABULARY, MAX_POSITIONS, 0)


def hidden_states_and_gradient(encoder: Encoder, batch: PackedBatch) -> tuple[Tensor, Tensor]:
    encoder.zero_grad()
    x_TD = encoder(batch.input)
    x_TD.square().sum().backward()
    gradient = encoder.get_parameter("relative_embedding.weight").grad
    assert gradient is not None
    return x_TD.detach(), gradient


@pytest.mark.parametrize("backend", ["padded", "reference"])
@pytest.mark.parametrize(("family", "overrides"), [("deberta", {}), ("deberta_v2", {"position_buckets": 6})])
def test_looking_distances_up_changes_nothing(family: str, overrides: dict[str, object], backend: str) -> None:
    encoder = deberta(family, **overrides)
    encoder.use_attention(backend)
    batch = batch_of([10, 4, 3, 8])
    looked_up = replace(batch, input=replace(batch.input, layout=replace(batch.layout, has_contiguous_positions=False)))
    for ours, theirs in zip(
        hidden_states_and_gradient(encoder, batch), hidden_states_and_gradient(encoder, looked_up), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["deberta", "deberta_v2"])
def test_dropped_tokens_leave_the_distances_of_the_others(family: str) -> None:
    """With attention shut to some tokens, the rest see the same whether those are there or not."""
    encoder = deberta(family, num_layers=1)
    whole, kept = batch_of([10]), torch.tensor([0, 2, 3, 7, 8, 11])
    x_TD = encoder.embed(whole.input)
    # Two "sequences": those kept and the others; attention never crosses from one to the other.
    index_T = torch.ones(ROW_LENGTH, dtype=torch.int32).index_fill(0, kept, 0)
    shut = replace(whole.layout, sequence_index_T=index_T, has_contiguous_positions=False)
    expected = encoder.run_blocks(x_TD, shut)[kept]
    short = replace(
        whole.layout,
        sequence_starts=torch.tensor([0, len(kept)], dtype=torch.int32),
        sequence_index_T=torch.zeros(len(kept), dtype=torch.int32),
        position_ids_T=whole.layout.position_ids_T[kept],
        row_length=len(kept),
        max_length=len(kept),
        has_contiguous_positions=False,
    )
    got = encoder.run_blocks(x_TD[kept], short)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_buckets_are_exact_near_and_logarithmic_far() -> None:
    distance_W = torch.arange(-511, 512)
    bucket_W = log_buckets(distance_W, 256, 512)
    assert torch.equal(bucket_W.flip(0), -bucket_W)
    near = distance_W.abs() <= 128
    assert torch.equal(bucket_W[near], distance_W[near])
    assert bool((bucket_W.diff() >= 0).all()) and int(bucket_W.max()) == 255
    # Half the logarithmic way from 128 to 511 is half of the buckets.
    halfway = round((128 * 511) ** 0.5)
    assert int(log_buckets(torch.tensor([halfway]), 256, 512)) == pytest.approx(128 + 127 / 2, abs=1)


def test_a_batch_whose_positions_differ_from_what_its_layout_says_is_refused() -> None:
    batch = batch_of([10, 4])
    with pytest.raises(ValueError, match="has_contiguous_positions=False"):
        replace(batch.layout, position_ids_T=batch.layout.position_ids_T // 2)
