"""The probe of minimal pairs: what it measures, what it costs, and that it changes nothing."""

import numpy as np
import pytest
import torch

from maskwright.encoders import build_encoder
from maskwright.evaluation.datasets.pairs import Pairs
from maskwright.evaluation.probes import MinimalPairsProbe, even_sample
from maskwright.evaluation.scorer import MaskedLanguageModel
from maskwright.evaluation.tasks.minimal_pairs import MinimalPairs, group_scores, score_pairs

ADJECTIVES = ["brown", "small", "old", "green", "slow"]


def make_pairs(counts: dict[str, int]) -> Pairs:
    """Return pairs of short sentences, so many of each paradigm."""
    good, bad, index = [], [], []
    for number, count in enumerate(counts.values()):
        for one in range(count):
            adjective = ADJECTIVES[one % len(ADJECTIVES)]
            good.append(f"the {adjective} dog slept under the table")
            bad.append(f"the {adjective} dog door under {'the' * (number % 2)}")
            index.append(number)
    ids = np.array([f"pair:{number}" for number in range(len(good))])
    return Pairs(ids, good, bad, np.array(index), list(counts))


PAIRS = make_pairs({"syntax/islands": 9, "syntax/gaps": 3, "binding/names": 6, "ellipsis": 1})


def test_a_sample_is_even_and_fixed():
    index = even_sample(PAIRS.paradigm_index, 10, seed=1)
    assert index.tolist() == sorted(set(index.tolist()))
    assert sorted(np.bincount(PAIRS.paradigm_index[index]).tolist()) == [1, 3, 3, 3]
    assert index.tolist() == even_sample(PAIRS.paradigm_index, 10, seed=1).tolist()
    assert index.tolist() != even_sample(PAIRS.paradigm_index, 10, seed=2).tolist()
    assert even_sample(PAIRS.paradigm_index, 100, seed=1).tolist() == list(range(len(PAIRS)))


def test_the_probe_agrees_with_the_task(model: MaskedLanguageModel):
    probe = MinimalPairsProbe(PAIRS, model.tokenizer, num_pairs=1000, seed=1)
    scored = score_pairs(model, PAIRS, "original", "half")
    items, work = scored.items, scored.work
    found = probe(model.encoder, model.head)  # pyright: ignore[reportArgumentType]
    assert found["blimp_accuracy"] == pytest.approx(MinimalPairs().scores(items)["accuracy"])
    groups = group_scores(items, seed=1)
    for phenomenon in ("syntax", "binding", "ellipsis"):
        assert found[f"blimp_{phenomenon}"] == pytest.approx(groups[phenomenon]["accuracy"])
    assert len(found) == 4
    assert probe.num_pairs == len(PAIRS)
    assert work.num_encoded_tokens <= probe.num_tokens


def test_the_cost_is_what_goes_through_the_encoder_at_most(model: MaskedLanguageModel):
    pairs = PAIRS.take(np.array([0]))
    probe = MinimalPairsProbe(pairs, model.tokenizer, num_pairs=5, seed=1)
    lengths = [len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (*pairs.good, *pairs.bad)]
    assert probe.num_tokens == sum(length * (length + 2) for length in lengths)


def test_the_probe_leaves_modules_and_randomness_alone(model: MaskedLanguageModel, vocabulary):
    encoder = build_encoder(
        "modernbert",
        None,
        {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "feed_forward_size": 32},
        vocabulary,
        max_positions=8,
        seed=1,
    )
    probe = MinimalPairsProbe(PAIRS, model.tokenizer, num_pairs=8, seed=1, name="mine", max_tokens=6)
    encoder.train()
    state = torch.get_rng_state()
    found = probe(encoder, model.head, torch.bfloat16)  # pyright: ignore[reportArgumentType]
    assert encoder.training
    assert torch.equal(state, torch.get_rng_state())
    assert found == probe(encoder, model.head, torch.bfloat16)  # pyright: ignore[reportArgumentType]
    assert 0 <= found["mine_accuracy"] <= 1
