"""The reservoir: exact uniform samples, independent of batches, resumable."""

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from scipy.stats import chisquare

from maskwright.core.errors import CheckpointError, CorpusError
from maskwright.semantics.reservoir import KEYS_PER_GENERATOR, Reservoir


def stream(count: int, begin: int = 0) -> torch.Tensor:
    """States that are their own number."""
    return torch.arange(begin, begin + count, dtype=torch.float32)[:, None].expand(-1, 3)


def sample(count: int, capacity: int, seed: int, batches: list[int]) -> list[int]:
    """Return the sorted numbers that are kept of a stream cut into batches."""
    reservoir = Reservoir(capacity, 3, seed)
    for part in stream(count).split(batches):
        reservoir.add(part)
    assert reservoir.num_seen == count
    return sorted(reservoir.sample_ND[:, 0].int().tolist())


def test_a_short_stream_is_kept_whole_and_in_order():
    reservoir = Reservoir(10, 3, seed=0)
    assert len(reservoir) == 0
    reservoir.add(stream(4))
    reservoir.add(stream(3, begin=4))
    assert torch.equal(reservoir.sample_ND, stream(7))


@pytest.mark.parametrize("batches", [[500], [1] * 500, [7] * 71 + [3], [30, 0, 470]])
def test_the_sample_does_not_depend_on_the_batches(batches):
    assert sample(500, 40, 3, batches) == sample(500, 40, 3, [250, 250])


def test_the_sample_depends_on_the_seed():
    kept = sample(500, 40, 3, [500])
    assert len(set(kept)) == 40
    assert kept != sample(500, 40, 4, [500])


def test_every_state_is_as_likely_as_any_other():
    counts = np.zeros(60)
    for seed in range(2000):
        counts[sample(60, 15, seed, [10, 20, 30])] += 1
    assert counts.sum() == 2000 * 15
    # Draws without replacement vary less than chisquare assumes: 45/59 of the variance.
    assert chisquare(counts).statistic / (45 / 59) < 100


def test_keys_go_on_across_generators():
    count = 2 * KEYS_PER_GENERATOR + 100
    odd = [999] * (count // 999) + [count % 999]
    assert sample(count, 50, 1, odd) == sample(count, 50, 1, [count])
    assert max(sample(count, 50, 1, [count])) > KEYS_PER_GENERATOR


@pytest.mark.parametrize("stop", [0, 10, 40, 300])
def test_going_on_is_the_same_as_never_stopping(stop):
    whole, first = Reservoir(40, 3, seed=5), Reservoir(40, 3, seed=5)
    for part in stream(500).split(50):
        whole.add(part)
    first.add(stream(stop))
    second = Reservoir(40, 3, seed=5)
    second.load_state(load(save(first.state())))
    second.add(stream(500 - stop, begin=stop))
    assert sorted(second.sample_ND[:, 0].tolist()) == sorted(whole.sample_ND[:, 0].tolist())
    assert second.num_seen == 500


def test_other_widths_and_sizes_are_refused():
    reservoir = Reservoir(5, 3, seed=0)
    reservoir.add(stream(20))
    with pytest.raises(CorpusError, match="4 wide\nexpected: 3"):
        reservoir.add(torch.zeros(2, 4))
    with pytest.raises(CheckpointError, match=r"\[5, 3\]\nexpected: \[6, 3\]"):
        Reservoir(6, 3, seed=0).load_state(reservoir.state())
