"""Attention backends give the same outputs and gradients, whatever the layout, window and direction."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from maskwright.core.batches import SequenceLayout
from maskwright.core.errors import RecipeError
from maskwright.encoders import attention
from maskwright.encoders.attention import attend, choose_backend, effective_window, padded, varlen

NUM_HEADS, HEAD_SIZE = 2, 8
BOTH, CAUSAL, MIXED = "both ways", "causal", "mixed"
MASKS = [(None, BOTH), (None, CAUSAL), (None, MIXED), (6, BOTH), (6, CAUSAL), (6, MIXED), (1, BOTH)]


def random_layout(seed: int, num_rows: int = 3, row_length: int = 24) -> SequenceLayout:
    """Rows cut at random places; the last piece of each row stands for padding; two empty sequences at the end."""
    generator = torch.Generator().manual_seed(seed)
    starts = [0]
    for row in range(num_rows):
        cuts = torch.randperm(row_length - 1, generator=generator)[:3].sort().values + 1
        starts += [row * row_length + int(cut) for cut in cuts] + [(row + 1) * row_length]
    sequence_starts = torch.tensor([*starts, starts[-1], starts[-1]], dtype=torch.int32)
    lengths = sequence_starts.diff()
    index_T = torch.repeat_interleave(torch.arange(len(lengths), dtype=torch.int32), lengths)
    return layout_of(sequence_starts, index_T, row_length)


def layout_of(sequence_starts: Tensor, index_T: Tensor, row_length: int, **options: Any) -> SequenceLayout:
    position_ids_T = torch.arange(len(index_T)) - sequence_starts[index_T]
    return SequenceLayout(
        sequence_starts=sequence_starts,
        sequence_index_T=index_T,
        position_ids_T=position_ids_T,
        segment_ids_T=torch.zeros_like(position_ids_T),
        row_length=row_length,
        max_length=row_length,
        has_contiguous_positions=True,
        **options,
    )


def directed(layout: SequenceLayout, direction: str) -> SequenceLayout:
    """Return the layout with all sequences causal, with every second one causal, or as it is."""
    if direction == CAUSAL:
        return replace(layout, is_all_causal=True)
    is_causal_S = torch.arange(len(layout.sequence_starts) - 1, device=layout.sequence_starts.device) % 2 == 0
    return replace(layout, is_causal_S=is_causal_S) if direction == MIXED else layout


def random_inputs(layout: SequenceLayout, seed: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (len(layout.sequence_index_T), NUM_HEADS, HEAD_SIZE)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


def output_and_gradients(name: str, inputs: list[Tensor], layout: SequenceLayout, **options: Any) -> list[Tensor]:
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    output = attend(name, *leaves, layout, **options)
    generator = torch.Generator().manual_seed(99)
    weights = torch.randn(output.shape, generator=generator).to(output)
    return [output, *torch.autograd.grad((output * weights).sum(), leaves)]


def one_token_at_a_time(
    q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, layout: SequenceLayout, window: int | None
) -> Tensor:
    """Attention by its definition, in Python."""
    output = torch.zeros_like(q_THK)
    starts = layout.sequence_starts.tolist()
    for sequence, (begin, end) in enumerate(itertools.pairwise(starts)):
        is_causal = layout.is_all_causal or (layout.is_causal_S is not None and bool(layout.is_causal_S[sequence]))
        for query in range(begin, end):
            seen = [
                key
                for key in range(begin, end)
                if (window is None or abs(query - key) <= window // 2) and (not is_causal or key <= query)
            ]
            for head in range(q_THK.shape[1]):
                scores = torch.stack([q_THK[query, head] @ k_THK[key, head] for key in seen]) / math.sqrt(HEAD_SIZE)
                output[query, head] = scores.softmax(0) @ v_THK[seen, head]
    return output


@pytest.fixture(params=["sdpa", "matmul"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kernels of `padded`, on the CPU in float32."""
    monkeypatch.setattr(padded, "is_matmul_faster", lambda *_: request.param == "matmul")
    return request.param


@pytest.mark.parametrize(("window", "direction"), MASKS)
def test_reference_is_attention_by_its_definition(window: int | None, direction: str) -> None:
    layout = directed(random_layout(0, num_rows=2, row_length=12), direction)
    inputs = [tensor.detach() for tensor in random_inputs(layout, 1)]
    expected = one_token_at_a_time(*inputs, layout, window)
    torch.testing.assert_close(attend("reference", *inputs, layout, window), expected)


@pytest.mark.parametrize(("window", "direction"), MASKS)
@pytest.mark.parametrize("seed", range(3))
def test_padded_equals_reference_in_outputs_and_gradients(
    kernel: str, seed: int, window: int | None, direction: str
) -> None:
    layout = directed(random_layout(seed), direction)
    inputs = random_inputs(layout, seed)
    expected = output_and_gradients("reference", inputs, layout, window=window)
    got = output_and_gradients("padded", inputs, layout, window=window)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_padded_equals_reference_with_a_bias(kernel: str) -> None:
    layout = random_layout(5)
    inputs = random_inputs(layout, 5)
    bias = torch.randn((1, NUM_HEADS, 24, 24), generator=torch.Generator().manual_seed(6))
    expected = output_and_gradients("reference", inputs, layout, bias=bias, window=8)
    got = output_and_gradients("padded", inputs, layout, bias=bias, window=8)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_explicit_matmuls_in_bfloat16_are_nearly_as_exact_as_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores are rounded to bfloat16 between the two products, which the fused kernel does not do."""
    layout = random_layout(7, num_rows=4, row_length=128)
    inputs = random_inputs(layout, 8, torch.bfloat16)
    exact = output_and_gradients("reference", [tensor.float() for tensor in inputs], layout)
    errors = {}
    for choice in ("sdpa", "matmul"):
        monkeypatch.setattr(padded, "is_matmul_faster", lambda *_, choice=choice: choice == "matmul")
        got = output_and_gradients("padded", inputs, layout)
        errors[choice] = [
            float((ours.float() - truth).detach().norm() / truth.detach().norm())
            for ours, truth in zip(got, exact, strict=True)
        ]
    assert max(errors["matmul"]) < 0.01
    for explicit, fused in zip(errors["matmul"], errors["sdpa"], strict=True):
        assert explicit < 3 * fused


def test_varlen_asks_the_kernel_for_what_it_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel needs a GPU; here a stand-in follows the kernel's documented meaning of its arguments."""

    def stand_in(
        q: Tensor, k: Tensor, v: Tensor, starts_q: Tensor, starts_k: Tensor, max_q: int, max_k: int, *, window_size: Any
    ) -> Tensor:
        assert starts_q is starts_k and starts_q.dtype == torch.int32
        assert max_q == max_k == 24
        left, right = window_size
        place_T = torch.arange(len(q))
        sequence_T = torch.bucketize(place_T, starts_q, right=True)
        offset_TT = place_T[None] - place_T[:, None]
        is_seen_TT = sequence_T[:, None] == sequence_T[None]
        is_seen_TT &= (offset_TT >= -left) | (left < 0)
        is_seen_TT &= (offset_TT <= right) | (right < 0)
        scores_HTT = torch.einsum("qhk,shk->hqs", q, k) / math.sqrt(q.shape[-1])
        return torch.einsum("hqs,shk->qhk", scores_HTT.masked_fill(~is_seen_TT, -math.inf).softmax(-1), v)

    monkeypatch.setattr(varlen, "varlen_attn", stand_in)
    plain = random_layout(9)
    inputs = random_inputs(plain, 9)
    for window, direction in MASKS:
        layout = directed(plain, direction)
        expected = output_and_gradients("reference", inputs, layout, window=window)
        got = output_and_gradients("varlen", inputs, layout, window=window)
        for ours, theirs in zip(got, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_varlen_is_chosen_where_its_kernel_works(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """A new GPU is not enough: the kernel is tried; here on the CPU, for which torch has none."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    gpu, cpu, works = torch.device("cuda"), torch.device("cpu"), varlen.kernel_works.__wrapped__
    monkeypatch.setattr(varlen, "kernel_works", lambda device, dtype: works(cpu, dtype))
    assert choose_backend(gpu, torch.bfloat16, 512) == "padded"
    assert "no kernel for 'varlen'" in capsys.readouterr().err
    with pytest.raises(RecipeError, match="'varlen' does not run on cuda with bfloat16"):
        attention.require_backend("varlen", gpu, torch.bfloat16)
    monkeypatch.setattr(varlen, "varlen_attn", lambda q, *_, window_size: q)
    assert choose_backend(gpu, torch.bfloat16, 512) == "varlen"
    assert choose_backend(gpu, torch.bfloat16, 64) == choose_backend(gpu, torch.float32, 512) == "padded"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("window", "direction"), [(window, direction) for window in (None, 32) for direction in (BOTH, CAUSAL, MIXED)]
)
def test_varlen_equals_reference_on_a_gpu(window: int | None, direction: str) -> None:
    layout = directed(random_layout(10, num_rows=4, row_length=128), direction).to("cuda")
    inputs = [tensor.detach().cuda() for tensor in random_inputs(layout, 10, torch.bfloat16)]
    wide = [tensor.float() for tensor in inputs]
    expected = output_and_gradients("reference", wide, layout, window=window)
    got = output_and_gradients("varlen", inputs, layout, window=window)
    for ours, theirs in zip(got, expected, strict=True):
        assert float((ours.float() - theirs).detach().norm() / theirs.detach().norm()) < 0.01


def test_what_varlen_can_not_do_is_refused() -> None:
    layout = random_layout(1)
    inputs = random_inputs(layout, 1)
    with pytest.raises(RecipeError, match="no attention bias"):
        attend("varlen", *inputs, layout, bias=torch.zeros(1))


def test_an_unknown_backend_is_refused_naming_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'padded'"):
        attention.backend("paded")


def test_a_window_that_shuts_nothing_out_is_dropped() -> None:
    assert effective_window(128, 65) is None
    assert effective_window(128, 66) == 128
    assert effective_window(None, 1000) is None


def test_the_cpu_gets_the_padded_backend() -> None:
    assert choose_backend(torch.device("cpu"), torch.bfloat16, 128) == "padded"
    assert choose_backend(torch.device("mps"), torch.float32, 128) == "padded"


@pytest.mark.parametrize(("window", "direction"), MASKS)
def test_rows_known_to_be_whole_sequences_give_the_same_without_a_mask(
    kernel: str, window: int | None, direction: str
) -> None:
    num_rows, row_length = 4, 9
    starts = torch.arange(0, num_rows * row_length + 1, row_length, dtype=torch.int32)
    index_T = torch.arange(num_rows, dtype=torch.int32).repeat_interleave(row_length)
    layout = directed(layout_of(starts, index_T, row_length, one_sequence_per_row=True), direction)
    inputs = random_inputs(layout, seed=6)
    expected = output_and_gradients("reference", inputs, layout, window=window)
    for ours, theirs in zip(output_and_gradients("padded", inputs, layout, window=window), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend_name", ["padded", "varlen"])
@pytest.mark.parametrize("window", [None, 6, 1])
def test_windows_are_measured_in_the_text_and_hidden_tokens_are_not_seen(
    kernel: str, backend_name: str, window: int | None
) -> None:
    """Every fourth token of a text was left out, and every fifth that is left is seen by nobody."""
    layout = random_layout(4)
    place_T = torch.arange(len(layout.sequence_index_T))
    position_T = place_T - layout.sequence_starts[layout.sequence_index_T]
    position_T = position_T + position_T // 3
    is_visible_T = (place_T % 5 != 0) | (position_T == 0)
    layout = replace(layout, position_ids_T=position_T, has_contiguous_positions=False)
    hidden = replace(layout, is_visible_T=is_visible_T)
    # So narrow a window may leave a token with nothing to see, unless it sees itself.
    where = layout if window == 1 else hidden
    inputs = random_inputs(layout, 4)
    results = []
    for name in ("reference", backend_name):
        leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
        output = attention.backend(name)(where, window).attend(*leaves)
        results.append([output, *torch.autograd.grad((output * inputs[0].detach()).sum(), leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    scores_HTT = torch.einsum("qhk,shk->hqs", inputs[0], inputs[1]) / math.sqrt(HEAD_SIZE)
    for query in (0, 7, 30):
        same_sequence = layout.sequence_index_T == layout.sequence_index_T[query]
        is_near = (position_T - position_T[query]).abs() <= (window or 1000) // 2
        seen = (same_sequence & is_near & (is_visible_T | (window == 1))).nonzero().squeeze(1)
        expected = torch.einsum("hs,shk->hk", scores_HTT[:, query, seen].softmax(-1), inputs[2][seen])
        torch.testing.assert_close(results[1][0][query], expected)
