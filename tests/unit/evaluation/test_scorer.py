"""Scoring in packed batches equals scoring one sequence at a time, and leaves modules as they were."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM

from maskwright.batching.pack import pack_sequences
from maskwright.core.errors import EvaluationError
from maskwright.evaluation.scorer import Cloze, MaskedLanguageModel
from maskwright.export.folder import export_model


def random_clozes(model: MaskedLanguageModel, count: int, longest: int) -> list[Cloze]:
    """Return sequences of many lengths with some tokens hidden."""
    generator = np.random.default_rng(5)
    clozes = []
    for length in generator.integers(1, longest + 1, count):
        token_ids = generator.integers(5, model.vocabulary.size, length)
        positions = np.sort(generator.permutation(length)[: max(1, length // 5)])
        masked = token_ids.copy()
        masked[positions] = model.vocabulary.mask_id
        clozes.append(Cloze(masked, positions, token_ids[positions]))
    return clozes


def test_scores_equal_those_of_transformers_one_sequence_at_a_time(model: MaskedLanguageModel, tmp_path: Path):
    export_model(model.encoder, {"vocabulary": model.head}, model.tokenizer, tmp_path / "model")
    reference = AutoModelForMaskedLM.from_pretrained(tmp_path / "model").eval()
    ours = MaskedLanguageModel.from_folder(tmp_path / "model", torch.device("cpu"))
    clozes = random_clozes(ours, 25, 62)
    nats, ranks = [], []
    for cloze in clozes:
        ids = [ours.vocabulary.cls_id, *cloze.token_ids, ours.vocabulary.sep_id]
        with torch.no_grad():
            log_probabilities = reference(torch.tensor([ids])).logits[0].log_softmax(-1)
        for position, target in zip(cloze.positions, cloze.target_ids, strict=True):
            row = log_probabilities[position + 1]
            nats.append(-row[target].item())
            ranks.append((row > row[target]).sum().item())
    scores = list(replace_budget(ours, 150).score(clozes))
    assert len(scores) > 3, "several batches"
    np.testing.assert_allclose(np.concatenate([part.nats for part in scores]), nats, atol=2e-5)
    np.testing.assert_array_equal(np.concatenate([part.ranks for part in scores]), ranks)


def replace_budget(model: MaskedLanguageModel, tokens_per_batch: int) -> MaskedLanguageModel:
    """Return the model with another budget."""
    return MaskedLanguageModel(model.encoder, model.head, model.tokenizer, tokens_per_batch=tokens_per_batch)


def test_the_token_budget_does_not_change_scores(model: MaskedLanguageModel):
    clozes = random_clozes(model, 40, 62)
    one, many = (
        np.concatenate([part.nats for part in replace_budget(model, budget).score(clozes)]) for budget in (100_000, 70)
    )
    np.testing.assert_allclose(one, many, atol=2e-5)


def test_the_head_sees_only_asked_positions_and_large_outputs_are_made_in_pieces(
    model: MaskedLanguageModel, monkeypatch: pytest.MonkeyPatch
):
    clozes = random_clozes(model, 20, 62)
    whole = np.concatenate([part.nats for part in model.score(clozes)])
    num_rows = []
    model.head.register_forward_pre_hook(lambda _, inputs: num_rows.append(len(inputs[0])))
    monkeypatch.setattr("maskwright.evaluation.scorer.LOGITS_PER_CHUNK", 7 * model.vocabulary.size)
    pieces = np.concatenate([part.nats for part in model.score(clozes)])
    assert sum(num_rows) == sum(len(cloze.positions) for cloze in clozes)
    assert max(num_rows) == 7
    np.testing.assert_allclose(pieces, whole, atol=1e-6)


def test_a_model_without_opinion_is_not_credited(model: MaskedLanguageModel):
    with torch.no_grad():
        model.encoder.embedding_weight_VE.zero_()
    (scores,) = model.score(random_clozes(model, 10, 30))
    np.testing.assert_array_equal(scores.ranks, scores.target_ids)
    np.testing.assert_allclose(scores.nats, np.log(model.vocabulary.size), rtol=1e-6)


def test_modules_keep_their_modes_and_gradients_stay_off(model: MaskedLanguageModel):
    model.encoder.train()
    model.head.eval()
    next(iter(model.encoder.children())).eval()
    before = [part.training for module in (model.encoder, model.head) for part in module.modules()]
    cloze = random_clozes(model, 1, 20)[0]
    probabilities = model.probabilities([cloze])
    assert not probabilities.requires_grad
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(cloze.positions)))
    assert [part.training for module in (model.encoder, model.head) for part in module.modules()] == before


def test_a_sequence_over_the_limit_is_refused(model: MaskedLanguageModel):
    cloze = random_clozes(model, 1, 20)[0]
    with pytest.raises(EvaluationError, match="at most 62 tokens"):
        list(model.score([replace(cloze, token_ids=np.full(63, 7))]))


def test_weights_that_are_not_finite_are_refused(model: MaskedLanguageModel):
    with torch.no_grad():
        model.head.transform.dense.weight[0, 0] = float("nan")
    with pytest.raises(EvaluationError, match="not a finite number"):
        list(model.score(random_clozes(model, 3, 20)))


def test_the_place_before_the_text_is_that_of_cls(model: MaskedLanguageModel):
    cloze = random_clozes(model, 1, 20)[0]
    framed = np.array([model.vocabulary.cls_id, *cloze.token_ids, model.vocabulary.sep_id])
    with torch.no_grad():
        batch = pack_sequences([cloze.token_ids], model.vocabulary, len(framed))
        x_TD = model.encoder(batch.input)
        expected = model.head(x_TD[:1], model.encoder.embedding_weight_VE).softmax(-1)
    at_cls = model.probabilities([replace(cloze, positions=np.array([-1]))])
    torch.testing.assert_close(at_cls, expected)


def test_ranks_are_counted_only_where_asked_for(model: MaskedLanguageModel):
    clozes = random_clozes(model, 20, 62)
    (with_ranks,), (without,) = model.score(clozes), model.score(clozes, with_ranks=False)
    np.testing.assert_array_equal(with_ranks.nats, without.nats)
    assert len(with_ranks.ranks) == len(with_ranks.nats)
    assert len(without.ranks) == 0


def test_sequences_of_one_length_are_not_padded_and_score_the_same(
    model: MaskedLanguageModel, monkeypatch: pytest.MonkeyPatch
):
    clozes = sorted(random_clozes(model, 300, 20), key=lambda cloze: len(cloze.token_ids))
    alone = [np.concatenate([part.nats for part in model.score([cloze])]) for cloze in clozes]
    layouts = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: layouts.append(inputs[0].layout))
    in_groups = [part.nats for part in replace_budget(model, 400).score(clozes)]
    np.testing.assert_allclose(np.concatenate(in_groups), np.concatenate(alone), atol=2e-5)
    uniform = [layout for layout in layouts if layout.one_sequence_per_row]
    assert len(uniform) > len(layouts) / 2
    assert all(layout.sequence_starts.diff().unique().tolist() == [layout.row_length] for layout in uniform)


def test_a_stream_of_mixed_lengths_fills_its_batches(model: MaskedLanguageModel):
    clozes = random_clozes(model, 300, 20)
    num_tokens = sum(len(cloze.token_ids) + 2 for cloze in clozes)
    num_batches = len(list(replace_budget(model, 400).score(clozes)))
    assert num_batches <= 1.2 * num_tokens / 400 + 1


@pytest.mark.slow
def test_a_compiled_encoder_gives_the_same_scores(model: MaskedLanguageModel, monkeypatch):
    clozes = [Cloze(np.arange(5, 5 + size), np.array([size // 2]), np.array([7])) for size in (4, 4, 9, 9, 17)]
    expected = np.concatenate([scores.nats for scores in model.score(clozes)])
    model.compile_for(1000)
    assert not model._compiled
    monkeypatch.setattr("maskwright.evaluation.scorer.COMPILED_FROM_FLOPS", 0)
    model.compile_for(1000)
    assert list(model._compiled) == [torch.float32]
    found = np.concatenate([scores.nats for scores in model.score(clozes)])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with model.compute_in_precision(torch.bfloat16):
        narrow = np.concatenate([scores.nats for scores in model.score(clozes)])
    assert 0 < np.abs(narrow - expected).max() < 0.5


def test_nothing_is_compiled_without_a_compiler(model: MaskedLanguageModel, monkeypatch):
    monkeypatch.setattr("maskwright.evaluation.scorer.COMPILED_FROM_FLOPS", 0)
    monkeypatch.setattr("shutil.which", lambda name: None)
    model.compile_for(1 << 40)
    assert not model._compiled
