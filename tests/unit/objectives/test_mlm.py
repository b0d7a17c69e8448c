"""Masked language modelling: rates, mixes and units are what the options say."""

import math

import pytest
import torch
from pydantic import ValidationError

from maskwright.core.batches import UNUSED
from maskwright.core.randomness import torch_generator
from maskwright.masking.rates import RateSchedule, rate_at
from maskwright.masking.replacement import Replacement
from maskwright.masking.selection import select_positions
from maskwright.objectives.mlm import Mlm


def objective(encoder, vocabulary, vocabulary_head, **options) -> Mlm:
    return Mlm(Mlm.Config.model_validate(options), encoder, vocabulary, vocabulary_head)


def corrupted(mlm, batch, seed=0, progress=0.0):
    return mlm.corrupt(batch, torch_generator(seed, "test"), progress)


def special(vocabulary) -> torch.Tensor:
    return torch.tensor(vocabulary.special_ids)


@pytest.mark.parametrize("rate", [0.15, 0.3, 0.5])
def test_the_scored_share_of_text_tokens_is_exact(encoder, vocabulary, vocabulary_head, batch, rate):
    result = corrupted(objective(encoder, vocabulary, vocabulary_head, rate=rate), batch)
    is_text = ~torch.isin(batch.token_ids_T, special(vocabulary))
    is_used = result.questions["token"].targets != UNUSED
    assert int(is_used.sum()) == round(rate * int(is_text.sum())) == int(result.questions["token"].count)
    assert len(result.questions["token"].positions_M) == math.ceil(rate * len(batch.token_ids_T))
    positions = result.questions["token"].positions_M[is_used]
    assert len(positions.unique()) == len(positions)
    assert is_text[positions].all()
    assert torch.equal(result.questions["token"].targets[is_used], batch.token_ids_T[positions])
    assert (result.input.token_ids_T[positions] == vocabulary.mask_id).all()
    untouched = torch.ones_like(is_text)
    untouched[positions] = False
    assert torch.equal(result.input.token_ids_T[untouched], batch.token_ids_T[untouched])


def test_masks_are_new_at_every_sight_and_the_same_for_the_same_seed(encoder, vocabulary, vocabulary_head, batch):
    mlm = objective(encoder, vocabulary, vocabulary_head)
    first = corrupted(mlm, batch, seed=1)
    assert torch.equal(first.input.token_ids_T, corrupted(mlm, batch, seed=1).input.token_ids_T)
    assert not torch.equal(first.input.token_ids_T, corrupted(mlm, batch, seed=2).input.token_ids_T)


def test_whole_words_are_selected_whole(encoder, vocabulary, vocabulary_head, batch):
    result = corrupted(objective(encoder, vocabulary, vocabulary_head, strategy="whole_word"), batch)
    is_scored = torch.zeros_like(batch.marks["word"])
    is_scored[result.questions["token"].positions_M[result.questions["token"].targets != UNUSED]] = True
    word = batch.marks["word"].cumsum(0)
    sizes, scored = torch.bincount(word), torch.bincount(word, weights=is_scored.double())
    assert (sizes[1:] > 1).any()
    assert ((scored == 0) | (scored == sizes)).all()
    is_text = ~torch.isin(batch.token_ids_T, special(vocabulary))
    assert int(is_scored.sum()) == pytest.approx(0.3 * int(is_text.sum()), abs=1)


def test_berts_mix_is_exact_and_random_tokens_are_never_special(vocabulary):
    token_ids = torch.full((60_000,), 17)
    replaced = Replacement(0.8, 0.1, vocabulary)(token_ids, torch_generator(0, "test"))
    masked, kept = (replaced == vocabulary.mask_id).double().mean(), (replaced == 17).double().mean()
    num_text_ids = vocabulary.size - len(vocabulary.special_ids)
    deviation = 5 * math.sqrt(0.25 / len(token_ids))
    assert float(masked) == pytest.approx(0.8, abs=deviation)
    assert float(kept) == pytest.approx(0.1 + 0.1 / num_text_ids, abs=deviation)
    drawn = replaced[(replaced != vocabulary.mask_id) & (replaced != 17)]
    assert not torch.isin(drawn, special(vocabulary)).any()
    assert len(drawn.unique()) == num_text_ids - 1
    assert (token_ids == 17).all()


def test_every_text_token_is_as_likely_as_any_other():
    is_eligible = torch.tensor([False, True, True, True, True, False, True, True, True, True])
    counts = torch.zeros(10)
    generator = torch_generator(0, "test")
    for _ in range(4000):
        counts[select_positions(is_eligible, is_eligible, 2, generator)] += 1
    assert (counts[~is_eligible] == 0).all()
    assert counts[is_eligible] / 4000 == pytest.approx(0.25, abs=0.035)


def test_a_word_that_would_overshoot_is_left_out_and_a_smaller_one_taken():
    is_eligible = torch.ones(7, dtype=torch.bool)
    unit_starts = torch.tensor([True, False, False, True, False, False, True])
    for seed in range(30):
        positions = select_positions(is_eligible, unit_starts, 2, torch_generator(seed, "test"))
        assert positions.tolist() == [6]


def test_rates_move_over_the_phase(encoder, vocabulary, vocabulary_head, batch):
    mlm = objective(encoder, vocabulary, vocabulary_head, rate={"start": 0.4, "end": 0.2})
    counts = [int(corrupted(mlm, batch, progress=progress).questions["token"].count) for progress in (0.0, 0.5, 1.0)]
    assert counts[0] == pytest.approx(2 * counts[2], abs=1)
    assert counts[1] == pytest.approx((counts[0] + counts[2]) / 2, abs=1)
    assert mlm.scored_fraction() == 0.4
    cosine = RateSchedule(start=0.4, end=0.2, shape="cosine")
    assert [rate_at(cosine, progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([0.4, 0.3, 0.2])


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 0},
        {"rate": 1.0},
        {"mask_fraction": 0.8},
        {"strategy": "letter"},
        {"rate": {"start": 0.4}},
        {"rte": 0.1},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValidationError):
        Mlm.Config.model_validate(options)


def test_the_loss_is_the_sum_of_cross_entropies_at_the_masked_positions(encoder, vocabulary, vocabulary_head, batch):
    mlm = objective(encoder, vocabulary, vocabulary_head)
    result = corrupted(mlm, batch)
    (term,) = mlm.loss(encoder, result)
    x_TD = encoder(result.input)
    log_probabilities = vocabulary_head(x_TD, encoder.embedding_weight_VE).log_softmax(-1)
    is_used = result.questions["token"].targets != UNUSED
    chosen = log_probabilities[
        result.questions["token"].positions_M[is_used], result.questions["token"].targets[is_used]
    ]
    assert float(term.total.detach()) == pytest.approx(float(-chosen.sum().detach()), rel=1e-5)
    assert float(term.total.detach() / term.count) == pytest.approx(math.log(vocabulary.size), rel=0.1)
