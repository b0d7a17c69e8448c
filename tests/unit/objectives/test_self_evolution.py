"""Self-evolution hides the candidates that the model finds hardest, and smooths with its own answer."""

import pytest
import torch

from maskwright.core.randomness import torch_generator
from maskwright.objectives.self_evolution import SelfEvolution


@pytest.fixture
def objective(encoder, vocabulary, vocabulary_head) -> SelfEvolution:
    config = SelfEvolution.Config(rate=0.2, pool=3.0, smoothing=0.1, smoothing_tokens=4, mask_fraction=0.8,
                                  random_fraction=0.1, kept_fraction=0.1)  # fmt: skip
    return SelfEvolution(config, encoder, vocabulary, vocabulary_head)


def test_the_hardest_candidates_are_hidden(objective, encoder, batch):
    drawn = objective.corrupt(batch, torch_generator(0, "test"), 0.0)
    done = objective.complete(encoder, drawn)
    candidates = drawn.candidates_P[: int(drawn.num_candidates)]
    assert len(candidates.unique()) == len(candidates)
    with torch.no_grad():
        x_TD = encoder(batch.input)
        logits = objective.vocabulary_head(x_TD[candidates], encoder.embedding_weight_VE)
    losses = torch.nn.functional.cross_entropy(logits, batch.token_ids_T[candidates], reduction="none")
    budget = int(drawn.questions["token"].count)
    expected = candidates[losses.argsort(descending=True)[:budget]].sort().values
    question = done.questions["token"]
    assert int(question.count) == budget
    assert torch.equal(question.positions_M[:budget], expected)
    assert (question.positions_M[budget:] == 0).all() and question.targets.weights_MK[budget:].eq(0).all()
    assert torch.equal(question.targets.token_ids_MK[:budget, 0], batch.token_ids_T[expected])
    untouched = torch.ones_like(batch.marks["word"])
    untouched[expected] = False
    assert torch.equal(done.input.token_ids_T[untouched], batch.token_ids_T[untouched])
    replacement = dict(zip(drawn.candidates_P.tolist(), drawn.replacements_P.tolist(), strict=True))
    assert done.input.token_ids_T[expected].tolist() == [replacement[place] for place in expected.tolist()]


def test_targets_are_smoothed_by_the_models_answer(objective, encoder, batch):
    done = objective.complete(encoder, objective.corrupt(batch, torch_generator(0, "test"), 0.0))
    question, targets = done.questions["token"], done.questions["token"].targets
    is_used = torch.arange(len(question.positions_M)) < question.count
    torch.testing.assert_close(targets.weights_MK.sum(1), is_used.float())
    assert targets.weights_MK[is_used, 0] == pytest.approx(0.9)
    assert torch.equal(targets.token_ids_MK[is_used, 0], batch.token_ids_T[question.positions_M[is_used]])
    with torch.no_grad():
        x_TD = encoder(batch.input)
        p = objective.vocabulary_head(x_TD[question.positions_M], encoder.embedding_weight_VE).softmax(1)
    top = p.topk(4, dim=1)
    assert torch.equal(targets.token_ids_MK[is_used, 1:], top.indices[is_used])
    torch.testing.assert_close(
        targets.weights_MK[is_used, 1:], 0.1 * (top.values / top.values.sum(1, keepdim=True))[is_used]
    )


def test_with_a_pool_of_one_and_no_smoothing_it_is_mlm(encoder, vocabulary, vocabulary_head, batch):
    config = SelfEvolution.Config(pool=1.0, smoothing=0.0)
    objective = SelfEvolution(config, encoder, vocabulary, vocabulary_head)
    drawn = objective.corrupt(batch, torch_generator(0, "test"), 0.0)
    done = objective.complete(encoder, drawn)
    assert torch.equal(done.input.token_ids_T, drawn.input.token_ids_T)
    assert torch.equal(done.questions["token"].positions_M, drawn.questions["token"].positions_M)
    torch.testing.assert_close(objective.loss(encoder, done)[0].total, objective.loss(encoder, drawn)[0].total)


def test_shapes_are_fixed_and_training_mode_is_kept(objective, encoder, batch):
    encoder.train()
    drawn = objective.corrupt(batch, torch_generator(0, "test"), 0.0)
    done = objective.complete(encoder, drawn)
    assert encoder.training
    before, after = (each.questions["token"].targets for each in (drawn, done))
    assert before.weights_MK.shape == after.weights_MK.shape and before.token_ids_MK.shape == after.token_ids_MK.shape


def test_strategies_and_terms_are_no_options_of_it():
    for option in ({"strategy": "span"}, {"terms": ["token"]}):
        with pytest.raises(ValueError, match="Extra inputs are not permitted"):
            SelfEvolution.Config(**option)
