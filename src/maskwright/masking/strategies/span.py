"""Spans of whole words, of geometric lengths.

Source: Joshi et al. 2020, SpanBERT, arXiv:1907.10529, section 3.1 (p = 0.2, at most 10 words).
Departures: the text is cut into spans of drawn lengths one after the other, and spans are drawn from these, instead of
    drawing lengths and positions until the budget is used; so spans meet but never overlap. A sequence's last span ends
    with it. What stands in place of a token is drawn for each token, not once for a span.
"""

import math

import torch
from pydantic import Field
from torch import Tensor

from maskwright.core.batches import WORD, PackedBatch
from maskwright.core.vocabulary import Vocabulary
from maskwright.masking.strategies.base import Strategy, StrategyConfig, Units


class Span(Strategy):
    """Hides spans of neighbouring words, most of them short: harder than words, and closer to names and phrases."""

    citation = "Joshi et al. 2020, SpanBERT: Improving Pre-training by Representing Spans, arXiv:1907.10529"
    needs_words = True

    class Config(StrategyConfig):
        """Options of `span`."""

        p: float = Field(
            default=0.2, gt=0, le=1, description="that a span ends after a word: lengths are geometric (SpanBERT: 0.2)"
        )
        most_words: int = Field(default=10, ge=1, description="words in a span, at most (SpanBERT: 10)")

    def __init__(self, config: Config, vocabulary: Vocabulary) -> None:
        """Compute the probabilities of the lengths."""
        super().__init__(config, vocabulary)
        lengths = torch.arange(1, config.most_words + 1)
        chances = (math.log1p(-config.p) * (lengths - 1).double()).exp() if config.p < 1 else (lengths == 1).double()
        self._cumulative = (chances / chances.sum()).cumsum(0)

    def units(self, batch: PackedBatch, is_text_T: Tensor, generator: torch.Generator, progress: float) -> Units:
        """Cut every sequence into spans of drawn numbers of words."""
        is_word_T = batch.marks[WORD] & is_text_T
        words = is_word_T.nonzero().squeeze(1)
        sequence_of_word = batch.layout.sequence_index_T[words].long()
        draws = torch.rand(len(words), generator=generator, dtype=torch.float64)
        lengths = 1 + torch.searchsorted(self._cumulative, draws).clamp(max=len(self._cumulative) - 1)
        # As many draws as words are more than enough: the k-th span of a sequence begins where the lengths drawn
        # before it in the sequence end.
        is_first = torch.ones(len(words), dtype=torch.bool)
        is_first[1:] = sequence_of_word[1:] != sequence_of_word[:-1]
        first_word = torch.where(is_first, torch.arange(len(words)), 0).cummax(0).values
        drawn_before = lengths.cumsum(0) - lengths
        begins = first_word + drawn_before - drawn_before[first_word]
        end_word = torch.bincount(sequence_of_word, minlength=1).cumsum(0)[sequence_of_word]
        starts_T = ~is_text_T
        starts_T[words[begins[begins < end_word]]] = True
        return Units(starts_T)
