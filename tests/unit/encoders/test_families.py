"""Every family keeps the encoder's contract."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from maskwright.core.batches import PackedBatch
from maskwright.core.discovery import plug_in_names
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders import build_encoder
from maskwright.encoders.build import FAMILIES, load_family
from maskwright.encoders.encoder import Encoder
from maskwright.heads.vocabulary import VocabularyHead

SMALL = {"num_layers": 4, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 48}
# test_hugging_face.py has what the family of transformers' own models promises.
VARIANTS = [(name, {}) for name in plug_in_names(FAMILIES) if not load_family(name).is_foreign] + [
    ("bert", {"norm_position": "pre"}),
    ("modernbert", {"local_attention": 8}),
    ("deberta", {"position_to_content": False, "absolute_positions": True, "max_relative_positions": 6}),
    ("deberta_v2", {"position_buckets": 8, "shared_projections": False}),
]
RandomBatch = Callable[..., PackedBatch]


@pytest.fixture(params=VARIANTS, ids=lambda variant: "-".join([variant[0], *map(str, variant[1].values())]))
def encoder(request: pytest.FixtureRequest, vocabulary: Vocabulary) -> Encoder:
    family, overrides = request.param
    return build_encoder(family, None, SMALL | overrides, vocabulary, 48, seed=0)


def hidden_states(encoder: Encoder, batch: PackedBatch, causal: bool = False) -> Tensor:
    return encoder(replace(batch.input, layout=replace(batch.layout, is_all_causal=True)) if causal else batch.input)


@pytest.mark.parametrize("backend", ["reference", "padded"])
@pytest.mark.parametrize("causal", [False, True])
def test_other_documents_make_no_difference(
    encoder: Encoder, random_batch: RandomBatch, backend: str, causal: bool
) -> None:
    encoder.use_attention(backend)
    batch = random_batch([20, 12, 9, 30, 7])
    before = hidden_states(encoder, batch, causal)
    for sequence in range(4):
        is_kept_T = batch.layout.sequence_index_T == sequence
        changed_T = torch.where(is_kept_T, batch.token_ids_T, (batch.token_ids_T + 7) % 100)
        after = hidden_states(encoder, replace(batch, input=replace(batch.input, token_ids_T=changed_T)), causal)
        torch.testing.assert_close(after[is_kept_T], before[is_kept_T], atol=1e-6, rtol=0)
        assert not torch.allclose(after[~is_kept_T], before[~is_kept_T])


def test_hidden_states_do_not_depend_on_the_place_in_the_batch(encoder: Encoder, random_batch: RandomBatch) -> None:
    batch = random_batch([20, 12, 9, 30, 7])
    together = hidden_states(encoder, batch)
    starts = batch.layout.sequence_starts.tolist()
    for begin, end in itertools.pairwise(starts):
        if begin == end or batch.token_ids_T[begin] == 0:
            continue
        alone = random_batch([end - begin - 2], row_length=end - begin)
        alone = replace(alone, input=replace(alone.input, token_ids_T=batch.token_ids_T[begin:end]))
        torch.testing.assert_close(hidden_states(encoder, alone), together[begin:end], atol=1e-5, rtol=1e-4)


def test_padding_gives_finite_hidden_states_and_gradients(encoder: Encoder, random_batch: RandomBatch) -> None:
    x_TD = hidden_states(encoder, random_batch([5, 40]))
    assert x_TD.isfinite().all()
    x_TD.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in encoder.parameters())


def test_causal_attention_does_not_look_ahead(encoder: Encoder, random_batch: RandomBatch) -> None:
    batch = random_batch([46])
    changed_T = batch.token_ids_T.clone()
    changed_T[30:] = 9
    changed = replace(batch, input=replace(batch.input, token_ids_T=changed_T))
    before, after = hidden_states(encoder, batch, True), hidden_states(encoder, changed, True)
    torch.testing.assert_close(after[:30], before[:30], atol=1e-6, rtol=0)
    both_ways = hidden_states(encoder, batch), hidden_states(encoder, changed)
    assert not torch.allclose(both_ways[0][:30], both_ways[1][:30])


def test_the_blocks_run_in_pieces(encoder: Encoder, random_batch: RandomBatch) -> None:
    batch = random_batch([20, 12, 9])
    x_TD = encoder.embed(batch.input)
    x_TD = encoder.run_blocks(x_TD, batch.layout, 0, 1)
    x_TD = encoder.run_blocks(x_TD, batch.layout, 1, -1)
    x_TD = encoder.run_blocks(x_TD, batch.layout, -1)
    assert torch.equal(encoder.final_norm(x_TD), hidden_states(encoder, batch))


def test_positions_are_taken_as_stored(encoder: Encoder, random_batch: RandomBatch) -> None:
    batch = random_batch([20, 12, 9])
    layout = replace(batch.layout, has_contiguous_positions=False)
    assert torch.allclose(
        hidden_states(encoder, batch), hidden_states(encoder, replace(batch, input=replace(batch.input, layout=layout)))
    )
    layout = replace(layout, position_ids_T=batch.layout.position_ids_T // 2)
    stretched = replace(batch, input=replace(batch.input, layout=layout))
    assert not torch.allclose(hidden_states(encoder, batch), hidden_states(encoder, stretched))


def test_training_is_one_graph_for_every_batch_of_the_same_size(encoder: Encoder, random_batch: RandomBatch) -> None:
    head = VocabularyHead(encoder.config)

    def loss(batch: PackedBatch, positions_M: Tensor) -> Tensor:
        logits_MV = head(hidden_states(encoder, batch)[positions_M], encoder.embedding_weight_VE)
        return torch.nn.functional.cross_entropy(logits_MV, batch.token_ids_T[positions_M])

    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=False)
    batches = [random_batch([44, 40]), random_batch([20, 20, 9, 9, 4, 4, 4]), random_batch([40, 45], seed=1)]
    assert len({len(batch.layout.sequence_starts) for batch in batches}) > 1
    assert len({len(batch.token_ids_T) for batch in batches}) == 1
    positions_M = torch.tensor([0, 3, 60])
    for batch in batches:
        with torch._dynamo.config.patch(error_on_recompile=True):
            compiled(batch, positions_M).backward()
        torch.testing.assert_close(compiled(batch, positions_M), loss(batch, positions_M))


def test_autocast_stays_close_to_float32(encoder: Encoder, random_batch: RandomBatch) -> None:
    batch = random_batch([20, 12, 9, 30])
    wide = hidden_states(encoder, batch)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = hidden_states(encoder, batch)
    assert narrow.dtype == torch.float32
    assert float((narrow - wide).detach().norm() / wide.detach().norm()) < 0.02


def test_every_linear_layer_is_called(encoder: Encoder, random_batch: RandomBatch) -> None:
    """So that adapters which wrap layers (LoRA) take part; a matrix that is used by itself would leave them out."""
    called: set[str] = set()
    linear = {name: module for name, module in encoder.named_modules() if isinstance(module, torch.nn.Linear)}
    for name, module in linear.items():
        module.register_forward_hook(lambda *_, name=name: called.add(name))
    hidden_states(encoder, random_batch([20, 12]))
    assert called == set(linear)


def test_dropout_acts_in_training_only(vocabulary: Vocabulary, random_batch: RandomBatch) -> None:
    batch = random_batch([20, 12])
    dropouts = {
        "modernbert": ["attention_dropout", "embedding_dropout", "feed_forward_dropout"],
        "bert": ["attention_dropout", "hidden_dropout"],
        "deberta": ["attention_dropout", "hidden_dropout"],
        "deberta_v2": ["attention_dropout", "hidden_dropout"],
    }
    for family, names in dropouts.items():
        plain = build_encoder(family, None, SMALL, vocabulary, 48, seed=0)
        for name in names:
            encoder = build_encoder(family, None, SMALL | {name: 0.5}, vocabulary, 48, seed=0)
            with torch.random.fork_rng():
                torch.manual_seed(0)
                assert not torch.allclose(hidden_states(encoder, batch), hidden_states(plain, batch)), name
            assert torch.equal(hidden_states(encoder.eval(), batch), hidden_states(plain, batch))
