"""Single tokens, those that are predicted wrongly more often: the weights follow how each vocabulary entry is learned.

Source: Edman and Fraser 2025, AMLM, in the BabyLM challenge 2025 (the "hard" score: accuracy).
Departures: the share of hidden tokens is exact, and tokens are drawn without replacement in proportion to their
    weights, instead of each for itself; what was seen in the last two steps before new weights counts for the next
    ones, because batches are made two steps ahead.
"""

import torch
from pydantic import Field
from torch import Tensor

from maskwright.batching.loader import READ_AHEAD_STEPS
from maskwright.core.batches import UNUSED, PackedBatch
from maskwright.core.ranks import Ranks
from maskwright.core.vocabulary import Vocabulary
from maskwright.masking.phase_start import PhaseStart
from maskwright.masking.strategies.base import Strategy, StrategyConfig, Units


class Adaptive(Strategy):
    """Hides the tokens more often that the model predicts wrongly; the weights are learned during the phase.

    Weights are made again every `refresh_steps` steps and hold from a step that is a multiple of it. The batches of a
    step are made up to `READ_AHEAD_STEPS` before it, so the counts close so many steps earlier, and the weights before
    stay in use until then: which weights a step has is a function of the step, whenever its batches are made.
    """

    citation = "Edman and Fraser 2025, adaptive masked language modelling (AMLM), BabyLM challenge 2025"
    needs_begin = True
    counts_steps = True  # finds the step by the progress
    learns = True

    weights_2V: Tensor
    counts_2V: Tensor
    switch_step: Tensor

    class Config(StrategyConfig):
        """Options of `adaptive`."""

        refresh_steps: int = Field(
            default=200, gt=READ_AHEAD_STEPS, description="steps between two sets of weights (AMLM: 200)"
        )
        memory: float = Field(
            default=0.2, ge=0, lt=1, description="share of the weights before in the new ones (AMLM: 0.2)"
        )
        least_weight: float = Field(
            default=0.02, gt=0, lt=1, description="no token gets less than this, relative to the mean"
        )

    def __init__(self, config: Config, vocabulary: Vocabulary) -> None:
        """Begin with equal weights and no counts."""
        super().__init__(config, vocabulary)
        self.options = config
        size = vocabulary.size
        # The weights in use before `switch_step` of the phase, and from it on; correct and scored tokens since they
        # were made, of all processes.
        self.register_buffer("weights_2V", torch.ones(2, size))
        self.register_buffer("counts_2V", torch.zeros(2, size, dtype=torch.int64))
        self.register_buffer("switch_step", torch.tensor(0))
        is_text_V = torch.ones(size, dtype=torch.bool)
        is_text_V[list(vocabulary.special_ids)] = False
        self._is_text_V = is_text_V
        self._num_steps, self._ranks = 0, Ranks()
        # Of this process and step alone, so no buffer: neither broadcast nor saved.
        self._seen_2V = torch.zeros(2, size, dtype=torch.int64)
        self._in_use: tuple[int, Tensor] | None = None

    def begin(self, start: PhaseStart) -> None:
        """Take up the weights of the checkpoint, or of the phase before that had the same objective."""
        self._num_steps, self._ranks = start.num_steps, start.ranks
        if not start.was_begun:
            self.weights_2V[0] = self.weights_2V[1]
            self.switch_step.zero_()
        self._seen_2V = torch.zeros_like(self.counts_2V)
        self._keep_at_hand()

    def units(self, batch: PackedBatch, is_text_T: Tensor, generator: torch.Generator, progress: float) -> Units:
        """Weigh every token by what was known of it at the last refresh before the step."""
        assert self._in_use is not None, "begin comes first"
        switch_step, weights_2V = self._in_use
        weights_V = weights_2V[int(round(progress * self._num_steps) >= switch_step)]
        return Units(torch.ones_like(is_text_T), weights_V[batch.token_ids_T])

    def observe(self, target_ids_M: Tensor, is_correct_M: Tensor) -> None:
        """Count scored and correct predictions of each vocabulary entry."""
        is_used_M = target_ids_M != UNUSED
        ids_M = target_ids_M.clamp(min=0)
        self._seen_2V[0].index_add_(0, ids_M, (is_correct_M & is_used_M).long())
        self._seen_2V[1].index_add_(0, ids_M, is_used_M.long())

    @torch.no_grad()
    def after_step(self, num_steps: int) -> None:
        """Add the step's counts of all processes; make new weights where it is time."""
        self._ranks.sum_(self._seen_2V)
        self.counts_2V += self._seen_2V
        self._seen_2V.zero_()
        coming = num_steps + READ_AHEAD_STEPS
        if coming % self.options.refresh_steps == 0:
            new_V = self._new_weights().to(self.weights_2V.device)
            self.weights_2V.copy_(torch.stack([self.weights_2V[1], new_V]))
            self.counts_2V.zero_()
            self.switch_step.fill_(coming)
            self._keep_at_hand()

    def _new_weights(self) -> Tensor:
        """Return weights of mean 1 over the text tokens; a token that was not scored counts as half correct."""
        correct_V, scored_V = self.counts_2V.cpu().double()
        difficulty_V = 1 - (correct_V + 0.5) / (scored_V + 1)
        options = self.options
        weights_V = options.memory * self.weights_2V[1].cpu().double() + (1 - options.memory) * difficulty_V
        weights_V = weights_V / weights_V[self._is_text_V].mean()
        return weights_V.clamp(min=options.least_weight).float()

    def _keep_at_hand(self) -> None:
        """Copy what `units` reads to the host, as one value: another thread may be reading."""
        self._in_use = int(self.switch_step), self.weights_2V.detach().cpu().clone()
