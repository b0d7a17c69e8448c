"""Decides minimal pairs in bfloat16 where they are clear, and in float32 where the two sentences come close.

On processors with fast bfloat16 this takes less than half the time. How far bfloat16 may be off is measured on a
sample of the pairs; `benchmarks/minimal_pairs.py` counts decisions that differ from those of float32.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from maskwright.core.randomness import numpy_generator
from maskwright.evaluation.pseudo_likelihood import Mode, ScoringWork, TokenizedSentences, pseudo_log_likelihoods
from maskwright.evaluation.scorer import MaskedLanguageModel

NUM_SAMPLED_PAIRS = 128
"""Pairs that are scored in both precisions."""

SAFETY = 3.0
"""Pairs count as clear beyond so many times the largest error of a sampled pair."""


@dataclass(frozen=True)
class ScreeningResult:
    """What screening found.

    Attributes:
        num_pairs: all pairs.
        num_exact_pairs: those scored in float32: the sample, and what was close.
        largest_error_nats: of a sampled pair's difference in bfloat16.
        bound_nats: pairs with a smaller difference were scored in float32.
    """

    num_pairs: int
    num_exact_pairs: int
    largest_error_nats: float
    bound_nats: float


def screened_log_likelihoods(
    model: MaskedLanguageModel, sentences: TokenizedSentences, mode: Mode, seed: int, advance: Callable[[float], None]
) -> tuple[np.ndarray, ScoringWork, ScreeningResult]:
    """Return pseudo-log-likelihoods whose order within each pair is that of float32.

    Args:
        model: as float32.
        sentences: of pair i, the sentences 2 i and 2 i + 1.
        mode: see `pseudo_log_likelihoods`.
        seed: of the sample.
        advance: called with how many masked copies were done in bfloat16.

    Returns:
        float64 [N], natural logarithms, those of clear pairs in bfloat16; what it took; and what was found.
    """
    num_pairs = len(sentences.lengths) // 2
    with model.compute_in_precision(torch.bfloat16):
        log_likelihoods, work = pseudo_log_likelihoods(model, sentences, mode, advance)
    sample = np.sort(numpy_generator(seed, "screening").permutation(num_pairs)[:NUM_SAMPLED_PAIRS])
    rough = pair_differences(log_likelihoods)
    work += _make_exact(model, sentences, mode, sample, log_likelihoods)
    largest_error = float(np.abs(pair_differences(log_likelihoods)[sample] - rough[sample]).max())
    bound = SAFETY * largest_error
    close = np.setdiff1d(np.flatnonzero(np.abs(rough) <= bound), sample)
    work += _make_exact(model, sentences, mode, close, log_likelihoods)
    return log_likelihoods, work, ScreeningResult(num_pairs, len(sample) + len(close), largest_error, bound)


def pair_differences(log_likelihoods: np.ndarray) -> np.ndarray:
    """Return the first sentence's minus the second's, float64 [N / 2]."""
    return log_likelihoods[0::2] - log_likelihoods[1::2]


def _make_exact(
    model: MaskedLanguageModel,
    sentences: TokenizedSentences,
    mode: Mode,
    pairs: np.ndarray,
    log_likelihoods: np.ndarray,
) -> ScoringWork:
    """Replace the scores of some pairs by those of float32, in place."""
    if not len(pairs):
        return ScoringWork()
    indices = np.column_stack([2 * pairs, 2 * pairs + 1]).ravel()
    log_likelihoods[indices], work = pseudo_log_likelihoods(model, sentences.take(indices), mode)
    return work
