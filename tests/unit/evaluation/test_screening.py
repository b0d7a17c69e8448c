"""Pairs decided in bfloat16 where they are clear: the decisions are those of float32."""

import numpy as np
import pytest
import torch
from tests.unit.evaluation.conftest import SENTENCES

from maskwright.evaluation import screening
from maskwright.evaluation.pseudo_likelihood import ScoringWork, pseudo_log_likelihoods, tokenize
from maskwright.evaluation.scorer import MaskedLanguageModel
from maskwright.evaluation.screening import pair_differences, screened_log_likelihoods

PAIRED = [
    text
    for first in SENTENCES
    for second in SENTENCES
    if first != second
    for text in (" ".join([*first.split()[:4], *second.split()[3:]]), " ".join(first.split()[::-1]))
]


def nothing(amount: float) -> None:
    """Take no notice of progress."""


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let six pairs tell how far bfloat16 may be off."""
    monkeypatch.setattr(screening, "NUM_SAMPLED_PAIRS", 6)


def test_decisions_are_those_of_float32(model: MaskedLanguageModel, few_samples):
    sentences = tokenize(model.tokenizer, PAIRED)
    exact, _ = pseudo_log_likelihoods(model, sentences)
    found, _, facts = screened_log_likelihoods(model, sentences, "original", 1, nothing)
    np.testing.assert_array_equal(np.sign(pair_differences(found)), np.sign(pair_differences(exact)))
    is_exact = np.isclose(found, exact, rtol=0, atol=1e-4).reshape(-1, 2).all(axis=1)
    is_close = np.abs(pair_differences(exact)) < facts.bound_nats - facts.largest_error_nats
    assert is_exact[is_close].all()
    assert facts.num_pairs == len(PAIRED) // 2
    assert 6 <= facts.num_exact_pairs < facts.num_pairs
    assert 0 < facts.largest_error_nats < 1
    assert model.dtype == torch.float32


def test_what_bfloat16_gets_wrong_is_put_right(model: MaskedLanguageModel, few_samples, monkeypatch):
    """The rough scores are off by up to one nat, and every pair within three of it is scored again."""
    sentences = tokenize(model.tokenizer, PAIRED)
    exact, _ = pseudo_log_likelihoods(model, sentences)
    noise = np.resize([0.5, -0.5, -0.5, 0.5], len(exact))

    def rough_or_exact(of: MaskedLanguageModel, some, mode="original", advance=nothing):
        values, work = pseudo_log_likelihoods(of, some, mode, advance)
        return (exact + noise, work) if of.dtype == torch.bfloat16 else (values, work)

    monkeypatch.setattr(screening, "pseudo_log_likelihoods", rough_or_exact)
    found, work, facts = screened_log_likelihoods(model, sentences, "original", 1, nothing)
    assert facts.largest_error_nats == pytest.approx(1, abs=1e-3)
    assert facts.bound_nats == pytest.approx(3, abs=3e-3)
    is_close = np.abs(pair_differences(exact + noise)) <= 2.9
    np.testing.assert_allclose(pair_differences(found)[is_close], pair_differences(exact)[is_close], atol=1e-4)
    np.testing.assert_array_equal(np.sign(pair_differences(found)), np.sign(pair_differences(exact)))
    assert work.num_copies > len(sentences.token_ids)


def test_the_sample_is_the_seeds(model: MaskedLanguageModel, few_samples):
    sentences = tokenize(model.tokenizer, PAIRED)
    first, second, other = (
        screened_log_likelihoods(model, sentences, "original", seed, nothing)[2] for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other


def test_work_adds_up():
    assert ScoringWork(1, 2, 3) + ScoringWork(10, 20, 30) == ScoringWork(11, 22, 33)


def test_some_sentences_of_many(model: MaskedLanguageModel):
    sentences = tokenize(model.tokenizer, SENTENCES)
    taken = sentences.take(np.array([3, 1]))
    expected = tokenize(model.tokenizer, [SENTENCES[3], SENTENCES[1]])
    np.testing.assert_array_equal(taken.token_ids, expected.token_ids)
    np.testing.assert_array_equal(taken.starts, expected.starts)
