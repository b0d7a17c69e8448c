"""Late masks: exact numbers, what the encoder may know, and the plain models that its corner cases are."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from maskwright.batching.pack import pack_sequences
from maskwright.batching.row_stream import RowStream
from maskwright.core.batches import UNUSED, EncoderInput, PackedBatch
from maskwright.core.errors import RecipeError
from maskwright.core.randomness import torch_generator
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders import build_encoder
from maskwright.encoders.attention import padded
from maskwright.encoders.encoder import Encoder
from maskwright.heads.vocabulary import VocabularyHead
from maskwright.objectives.late_mask import LateMask, LateMaskBatch
from maskwright.objectives.mlm import Mlm
from maskwright.training.recipe.recipe import parse_recipe

SHAPE = {"num_layers": 3, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 48}
FAMILIES: dict[str, dict[str, Any]] = {
    # A window so narrow that it matters whether it is measured in the row or in the text.
    "modernbert": {"local_attention": 6, "global_attention_every": 2},
    "bert": {},
    "deberta": {"absolute_positions": True},
    "deberta_v2": {"position_buckets": 8},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "decoder": {},
    "one_layer": {"decoder_layers": 1},
    "insert": {"insert_at": 2},
    "cross": {"decoder": "cross"},
}
each_family = pytest.mark.parametrize("family", FAMILIES)
each_variant = pytest.mark.parametrize("variant", VARIANTS)


def encoder_of(family: str, vocabulary: Vocabulary, **options: Any) -> Encoder:
    values = SHAPE | FAMILIES[family] | options
    return build_encoder(family, None, values, vocabulary, max_positions=64, seed=5)


def late_mask(encoder: Encoder, vocabulary: Vocabulary, **options: Any) -> LateMask:
    objective = LateMask(LateMask.Config(**options), encoder, vocabulary, VocabularyHead(encoder.config, seed=5))
    objective.initialize(torch_generator(7, "late masks"))
    return objective


def corrupted(objective: LateMask, batch: PackedBatch, seed: int = 0) -> LateMaskBatch:
    return objective.corrupt(batch, torch_generator(seed, "late masks"), 0.5)


def packed(vocabulary: Vocabulary, lengths: list[int], row_length: int, seed: int = 0) -> PackedBatch:
    text = np.setdiff1d(np.arange(vocabulary.size), vocabulary.special_ids)
    generator = np.random.default_rng(seed)
    return pack_sequences([generator.choice(text, length) for length in lengths], vocabulary, row_length)


def gradients(total: Tensor, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    return {name: each for name, each in zip(parameters, found, strict=True) if each is not None}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(
            gradient, theirs[name], rtol=1e-4, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.mark.parametrize("strategy", ["token", "whole_word"])
@pytest.mark.parametrize("rate", [0.15, 0.5, 0.8])
def test_every_row_loses_the_same_number_and_the_rate_is_exact(batch, encoder, vocabulary, rate, strategy):
    objective = late_mask(encoder, vocabulary, rate=rate, strategy=strategy)
    result = corrupted(objective, batch)
    is_text = objective.is_text(batch)
    is_masked = result.input.token_ids_T == vocabulary.mask_id
    per_row = is_masked.view(-1, 32).sum(1)
    assert set(per_row.tolist()) == {round(rate * 0.8 * 30)}
    assert result.late.dropped.layout.row_length == 32 - per_row[0]
    assert (result.questions["token"].targets != UNUSED).sum() == round(rate * int(is_text.sum()))
    assert torch.equal(is_masked.nonzero().squeeze(1), result.late.dropped.gaps_K), (
        "no real token but the masks is left out"
    )
    scored = result.questions["token"].positions_M[result.questions["token"].targets != UNUSED]
    assert torch.isin(result.late.dropped.gaps_K, scored).all() and is_text[scored].all()
    assert len(result.questions["token"].positions_M) == 8 * -int(-rate * 30 // 1)


def test_the_mix_is_the_recipes(batch, encoder, vocabulary):
    objective = late_mask(encoder, vocabulary, rate=0.6, mask_fraction=0.5, random_fraction=0.2, kept_fraction=0.3)
    counts = np.zeros(3)
    for seed in range(40):
        result = corrupted(objective, batch, seed)
        scored = result.questions["token"].positions_M[result.questions["token"].targets != UNUSED]
        inputs, targets = result.input.token_ids_T[scored], batch.token_ids_T[scored]
        is_masked, is_kept = inputs == vocabulary.mask_id, inputs == targets
        counts += [int(is_masked.sum()), int((~is_masked & ~is_kept).sum()), int(is_kept.sum())]
    assert counts / counts.sum() == pytest.approx([0.5, 0.2, 0.3], abs=0.02)


def test_padding_makes_up_for_missing_masks(encoder, vocabulary):
    """A row with 10 tokens of text and 20 of padding, one full row, one of padding alone."""
    batch = packed(vocabulary, [10, 30], row_length=32)
    objective = late_mask(encoder, vocabulary)
    result = corrupted(objective, batch)
    per_row = (result.input.token_ids_T == vocabulary.mask_id).view(-1, 32).sum(1)
    assert sorted(per_row.tolist()) == [4, 12]
    is_left = torch.ones(len(batch.token_ids_T), dtype=torch.bool).index_fill(0, result.late.dropped.gaps_K, False)
    assert set(is_left.view(-1, 32).sum(1).tolist()) == {20}
    dropped = result.late.dropped
    assert torch.equal(dropped.layout.sequence_index_T, batch.layout.sequence_index_T[dropped.kept_N])
    begins = dropped.layout.sequence_starts[dropped.layout.sequence_index_T.long()]
    assert (begins <= torch.arange(len(begins))).all() and dropped.layout.sequence_starts[-1] == len(begins)
    terms = objective.loss(encoder, result)
    assert torch.isfinite(terms[0].total)


@each_family
def test_masks_that_join_before_the_first_block_are_plain_mlm(family, batch, vocabulary):
    """Loss and gradients, with the mask's vector tied to the row of [MASK]."""
    encoder = encoder_of(family, vocabulary)
    late = late_mask(encoder, vocabulary, insert_at=0, mask_vector="embedding")
    plain = Mlm(Mlm.Config(), encoder, vocabulary, late.vocabulary_head)
    result = corrupted(late, batch)
    (ours,) = late.loss(encoder, result)
    (theirs,) = plain.loss(encoder, result)
    torch.testing.assert_close(ours.total, theirs.total, rtol=1e-6, atol=1e-4)
    parameters = dict(encoder.named_parameters()) | dict(late.vocabulary_head.named_parameters())
    assert not list(late.decoder.extra_blocks.parameters())
    same(gradients(ours.total, parameters), gradients(theirs.total, parameters))


@each_family
def test_without_masks_it_is_a_deeper_encoder(family, batch, vocabulary):
    encoder = encoder_of(family, vocabulary)
    late = late_mask(encoder, vocabulary, mask_fraction=0.0, random_fraction=0.5, kept_fraction=0.5)
    deeper = encoder_of(family, vocabulary, num_layers=5)
    weights = encoder.state_dict() | {
        f"blocks.{3 + int(name.split('.')[0])}.{name.split('.', 1)[1]}": weight
        for name, weight in late.decoder.extra_blocks.state_dict().items()
    }
    deeper.load_state_dict(weights)
    result = corrupted(late, batch)
    assert len(result.late.dropped.gaps_K) == 0
    (ours,) = late.loss(encoder, result)
    x_TD = deeper(result.input)
    logits = late.vocabulary_head(x_TD[result.questions["token"].positions_M], encoder.embedding_weight_VE)
    expected = torch.nn.functional.cross_entropy(
        logits, result.questions["token"].targets, ignore_index=UNUSED, reduction="sum"
    )
    torch.testing.assert_close(ours.total, expected, rtol=1e-5, atol=1e-4)


def by_hiding(objective: LateMask, encoder: Encoder, result: LateMaskBatch, positions_M: Tensor | None) -> Tensor:
    """Return the loss with nothing left out, as evaluation reads: masks are hidden until they come in."""
    reader = objective.reader(encoder)
    x_MD = reader(result.input, positions_M)
    x_MD = x_MD if positions_M is not None else x_MD[result.questions["token"].positions_M]
    logits_MV = objective.vocabulary_head(x_MD, encoder.embedding_weight_VE)
    return torch.nn.functional.cross_entropy(
        logits_MV, result.questions["token"].targets, ignore_index=UNUSED, reduction="sum"
    )


@each_variant
@each_family
def test_leaving_masks_out_is_hiding_them(family, variant, batch, vocabulary):
    """Rows of several sequences, windows that are narrower than a row, loss and gradients of everything."""
    encoder = encoder_of(family, vocabulary)
    objective = late_mask(encoder, vocabulary, **VARIANTS[variant])
    result = corrupted(objective, batch)
    (term,) = objective.loss(encoder, result)
    expected = by_hiding(objective, encoder, result, None)
    torch.testing.assert_close(by_hiding(objective, encoder, result, result.questions["token"].positions_M), expected)
    torch.testing.assert_close(term.total, expected, rtol=1e-5, atol=1e-4)
    parameters = dict(encoder.named_parameters()) | {f"own.{n}": p for n, p in objective.named_parameters()}
    ours, theirs = gradients(term.total, parameters), gradients(expected, parameters)
    assert ours.keys() == parameters.keys(), "gradients reach everything"
    same(ours, theirs)


@each_variant
def test_what_is_predicted_does_not_depend_on_what_was_dropped(variant, batch, vocabulary):
    """Other words under the masks: the same input, the same states, another loss."""
    encoder = encoder_of("modernbert", vocabulary)
    objective = late_mask(encoder, vocabulary, **VARIANTS[variant])
    first = corrupted(objective, batch)
    is_mask = first.input.token_ids_T == vocabulary.mask_id
    other_words = batch.token_ids_T.where(~is_mask, batch.token_ids_T.roll(1).clamp(min=5))
    assert not torch.equal(other_words, batch.token_ids_T)
    targets = other_words[first.questions["token"].positions_M].where(
        first.questions["token"].targets != UNUSED, UNUSED
    )
    clean = replace(batch, input=replace(batch.input, token_ids_T=other_words))
    second = replace(first, clean=clean, questions={"token": replace(first.questions["token"], targets=targets)})
    states = [objective.read(encoder, each).states["token"] for each in (first, second)]
    assert torch.equal(*states)
    losses = [objective.loss(encoder, each)[0].total for each in (first, second)]
    assert not torch.equal(*losses)


@each_variant
@each_family
def test_sequences_of_a_row_do_not_see_each_other(family, variant, vocabulary):
    batch = packed(vocabulary, [12, 14], row_length=32)
    encoder = encoder_of(family, vocabulary)
    objective = late_mask(encoder, vocabulary, **VARIANTS[variant])
    result = corrupted(objective, batch)
    is_second = (batch.document_ids_S == 1)[batch.layout.sequence_index_T.long()]
    is_visible_text = objective.is_text(batch) & (result.input.token_ids_T != vocabulary.mask_id)
    changed = result.input.token_ids_T.where(
        ~(is_second & is_visible_text), result.input.token_ids_T.flip(0).clamp(min=5)
    )
    changed = changed.where(result.input.token_ids_T != vocabulary.mask_id, vocabulary.mask_id)
    changed_input = replace(result.input, token_ids_T=changed)
    other = replace(result, input=changed_input, late=replace(result.late, input=changed_input))
    assert not torch.equal(other.input.token_ids_T, result.input.token_ids_T)
    is_used = result.questions["token"].targets != UNUSED
    in_first = is_used & ~is_second[result.questions["token"].positions_M]
    before, after = (objective.read(encoder, each).states["token"] for each in (result, other))
    torch.testing.assert_close(before[in_first], after[in_first], rtol=0, atol=1e-6)
    assert not torch.allclose(before[is_used & ~in_first], after[is_used & ~in_first])


@each_variant
@pytest.mark.parametrize("family", ["modernbert", "bert"])
@pytest.mark.parametrize("rate", [0.3, 0.5])
def test_the_cost_is_within_three_percent_of_the_counter(family, variant, rate, vocabulary, monkeypatch):
    monkeypatch.setattr(padded, "is_matmul_faster", lambda *_: True)
    window = {"local_attention": 128} if family == "modernbert" else {}
    encoder = encoder_of(family, vocabulary, num_layers=4, hidden_size=64, feed_forward_size=96, **window)
    objective = late_mask(encoder, vocabulary, rate=rate, **VARIANTS[variant])
    batch = packed(vocabulary, [62] * 4, row_length=64)
    result = corrupted(objective, batch)
    with FlopCounterMode(display=False) as counter:
        objective.loss(encoder, result)[0].total.backward()
    formula = objective.flops_per_token(encoder.config, 64)
    assert formula == pytest.approx(counter.get_total_flops() / len(batch.token_ids_T), rel=0.03)
    assert formula < late_mask(encoder, vocabulary, rate=0.1).flops_per_token(encoder.config, 64)


def test_the_published_compute_is_what_the_formula_says(vocabulary):
    """78 % (base) and 68 % (large) of plain MLM in blocks alone; the formula knows attention and the last block too."""
    for layers, width, published in ((12, 768, 0.78), (24, 1024, 0.68)):
        sizes = {"num_layers": layers, "hidden_size": width, "num_heads": width // 64, "feed_forward_size": 4 * width}
        encoder = build_encoder("bert", "tiny", {}, vocabulary, 64, 0)
        config = type(encoder.config).model_validate(encoder.config.model_dump() | sizes | {"vocabulary_size": 1})
        objective = late_mask(encoder_of("bert", vocabulary, num_layers=layers), vocabulary)
        plain = Mlm(Mlm.Config(rate=0.5), encoder, vocabulary, objective.vocabulary_head)
        ratio = objective.flops_per_token(config, 512) / plain.flops_per_token(config, 512)
        assert published - 0.07 < ratio < published


@pytest.mark.parametrize("options", [{"insert_at": -1}, {"decoder_layers": 0}, {"insert_at": 1, "decoder": "cross"}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValidationError):
        LateMask.Config.model_validate(options)


@pytest.mark.parametrize(
    ("objective", "length", "says"),
    [
        ({"insert_at": 2}, 32, "insert_at: 2, the encoder has 2 layers"),
        ({"rate": 0.1}, 8, "no token would be masked in a sequence of 8"),
        ({"rate": {"start": 0.5, "end": 0.05}}, 8, "no token would be masked"),
        ({"rate": 0.95, "mask_fraction": 1.0, "random_fraction": 0, "kept_fraction": 0}, 8, "left visible"),
    ],
)
def test_what_can_not_be_trained_is_refused_when_the_recipe_is_read(raw_recipe, objective, length, says):
    phase = {"objective": {"name": "late_mask", **objective}, "sequence_length": length}
    with pytest.raises(RecipeError, match=says):
        parse_recipe(raw_recipe | {"phases": [phase]}, "test")


def test_an_encoder_that_runs_as_a_whole_is_refused_when_the_recipe_is_read(raw_recipe):
    raw_recipe["encoder"] = {
        "family": "hugging_face",
        "size": None,
        "overrides": {"model_type": "roberta", "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2},
    }
    raw_recipe["phases"] = [{"objective": {"name": "late_mask"}, "sequence_length": 32}]
    with pytest.raises(RecipeError, match="can't run in pieces"):
        parse_recipe(raw_recipe, "test")


@pytest.mark.slow
@each_variant
def test_the_reader_compiles_for_batches_of_any_size(variant, corpus, vocabulary):
    encoder = encoder_of("modernbert", vocabulary)
    reader = late_mask(encoder, vocabulary, **VARIANTS[variant]).reader(encoder).eval()
    compiled = torch.compile(reader, dynamic=True, fullgraph=True)
    stream = RowStream(corpus.split("train"), vocabulary, 32, seed=3)
    for num_rows in (4, 7):
        batch = stream.batch(0, num_rows)
        ids_T = batch.token_ids_T.clone()
        places = torch.arange(3, 32 * num_rows, 5)[:: num_rows - 2]
        ids_T[places] = vocabulary.mask_id
        masked = EncoderInput(ids_T, batch.layout)
        with torch.no_grad():
            torch.testing.assert_close(compiled(masked, places), reader(masked, places), rtol=1e-4, atol=1e-4)


def test_rows_of_too_many_short_sequences_are_refused_before_they_go_wrong(encoder, vocabulary):
    batch = packed(vocabulary, [1] * 10, row_length=32)
    with pytest.raises(RecipeError, match="10 tokens of text and many short sequences"):
        corrupted(late_mask(encoder, vocabulary), batch)


def test_short_documents_keep_the_mix(encoder, vocabulary):
    """Four sequences a row: 24 of 32 tokens are text, so 10 and not 12 are masked, when that is known."""
    batch = packed(vocabulary, [6] * 16, row_length=32)
    objective = late_mask(encoder, vocabulary)
    objective.masking.text_share = 24 / 30
    result = corrupted(objective, batch)
    assert (result.input.token_ids_T == vocabulary.mask_id).sum() == 4 * 10
    assert (result.questions["token"].targets != UNUSED).sum() == 48


def test_the_share_of_text_is_that_of_the_corpus(corpus, encoder, vocabulary, phase_start):
    objective = late_mask(encoder, vocabulary)
    objective.begin(encoder, phase_start)
    stream = RowStream(corpus.split("train"), vocabulary, 32, seed=3)
    per_row = objective.is_text(stream.batch(0, stream.num_rows_per_epoch)).sum() / stream.num_rows_per_epoch
    assert objective.masking.text_share == pytest.approx(float(per_row) / 30, abs=0.02)
    assert objective.masking.text_share < 0.98


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["decoder", "insert", "cross"])
def test_a_rate_that_changes_compiles_once_more_and_not_at_every_step(variant, corpus, vocabulary):
    encoder = encoder_of("modernbert", vocabulary)
    objective = late_mask(encoder, vocabulary, rate={"start": 0.6, "end": 0.2}, **VARIANTS[variant])
    torch._dynamo.reset()
    graphs = []

    def counting_backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    loss = torch.compile(lambda each: objective.loss(encoder, each)[0].total, backend=counting_backend, fullgraph=True)
    stream = RowStream(corpus.split("train"), vocabulary, 32, seed=3)
    for number in range(10):
        each = objective.corrupt(stream.batch(8 * number, 8), torch_generator(number, "late masks"), number / 10)
        torch.testing.assert_close(loss(each), objective.loss(encoder, each)[0].total)
    assert len(graphs) <= 3
