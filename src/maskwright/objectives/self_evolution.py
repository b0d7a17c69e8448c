"""Self-evolution: the model reads the clean text, the tokens it finds hard are hidden, and its own answer smooths them.

Source: Zhong et al. 2023, Self-Evolution Learning for Discriminative Language Model Pretraining, arXiv:2305.15275
    (questioning itself on the clean text, then hiding the hard tokens; token-specific label smoothing).
Departures: the hardest of `pool` times as many candidates, drawn uniformly, are hidden, instead of all above a
    threshold, so that the share of hidden tokens is exact and shapes are fixed. Of the model's answer the
    `smoothing_tokens` most likely tokens count, made to sum to 1. Single tokens are hidden, never whole words.
Cost: that of mlm, and a forward pass over the clean text with the vocabulary head at the candidates.
Prefer: as a second phase after mlm; a model that knows nothing yet can't tell which tokens are hard.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from maskwright.core.batches import CorruptedBatch, PackedBatch, Question, in_slots
from maskwright.core.plug_in_field import Chosen
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import Encoder
from maskwright.encoders.flops import flops_per_token
from maskwright.heads.cross_entropy import rows_of_piece
from maskwright.heads.token_head import TokenHead
from maskwright.masking.masking import HidingOptions, require_masks_and_text
from maskwright.masking.phase_start import PhaseStart
from maskwright.masking.rates import rate_at
from maskwright.masking.replacement import Replacement
from maskwright.masking.selection import select_positions
from maskwright.models.evaluation_mode import evaluation_mode
from maskwright.objectives.base import TERMS, Objective, ObjectiveConfig
from maskwright.objectives.terms.base import Term
from maskwright.objectives.terms.token import SoftTargets

TOKEN = "token"


@dataclass(frozen=True)
class QuestionedBatch(CorruptedBatch):
    """A corrupted batch of which the model may still choose what is hidden.

    Attributes:
        candidates_P: int64 [P], positions that may be hidden, at least as many as slots; the first `num_candidates`
            count.
        replacements_P: int64 [P], what would stand there.
        num_candidates: int64 scalar.
    """

    candidates_P: Tensor
    replacements_P: Tensor
    num_candidates: Tensor


class SelfEvolutionConfig(HidingOptions, ObjectiveConfig):
    """Options of `self_evolution`."""

    pool: float = Field(
        default=2.0, ge=1, description="candidates for each hidden token; the hardest of them are hidden, 1: as mlm"
    )
    smoothing: float = Field(
        default=0.1, ge=0, lt=1, description="share of the target that is the model's own answer on the clean text"
    )
    smoothing_tokens: int = Field(default=8, ge=1, description="how many of its most likely tokens make up that answer")


class SelfEvolution(Objective):
    """MLM on the tokens that the model finds hard, with its own answer as part of the target."""

    citation = (
        "Zhong et al. 2023, Self-Evolution Learning for Discriminative Language Model Pretraining, arXiv:2305.15275"
    )
    Config = SelfEvolutionConfig

    def __init__(
        self, config: SelfEvolutionConfig, encoder: Encoder, vocabulary: Vocabulary, vocabulary_head: TokenHead
    ) -> None:
        super().__init__(config, encoder, vocabulary, vocabulary_head)
        self._replacement = Replacement(config.mask_fraction, config.random_fraction, vocabulary)
        self._num_answers = min(config.smoothing_tokens, vocabulary.size)
        self._dtype = torch.float32

    @classmethod
    def chosen_terms(cls, options: Any) -> Sequence[Chosen[Term]]:
        """See `Objective`: tokens alone, whose targets it smooths."""
        return (TERMS.choose(TOKEN),)

    @classmethod
    def require_fit(
        cls, options: Any, encoder_class: type[Encoder], encoder: EncoderConfig, sequence_length: int
    ) -> None:
        """See `Objective`: sequences have visible and masked tokens."""
        require_masks_and_text(options, sequence_length)

    @property
    def needs_begin(self) -> bool:
        return True

    def begin(self, encoder: Encoder, start: PhaseStart) -> None:
        """Note the precision of the run."""
        self._dtype = start.dtype

    def scored_share(self) -> float:
        """See `Objective`: the highest mask rate."""
        return self.config.highest_rate

    def reading_flops(self, config: EncoderConfig, sequence_length: int) -> float:
        """See `Objective`: with the forward pass over the clean text before it."""
        candidates = min(1.0, self.config.pool * self.config.highest_rate)
        before = flops_per_token(config, sequence_length, candidates) / 3
        return super().reading_flops(config, sequence_length) + before

    def corrupt(self, packed: PackedBatch, generator: torch.Generator, progress: float) -> QuestionedBatch:
        """Draw candidates, and what would stand in their place; until the model was asked, the first of them count."""
        rate, is_text_T = rate_at(self.config.rate, progress), self.is_text(packed)
        num_text, num_slots = int(is_text_T.sum()), math.ceil(rate * len(is_text_T))
        budget = max(1, round(rate * num_text))
        num_candidates = min(num_text, math.ceil(self.config.pool * budget))
        chosen = select_positions(is_text_T, torch.ones_like(is_text_T), num_candidates, generator)
        chosen = chosen[torch.rand(len(chosen), generator=generator).argsort()]
        candidates_P = in_slots(chosen, min(len(is_text_T), math.ceil(self.config.pool * num_slots)), 0)
        replacements_P = self._replacement(packed.token_ids_T[candidates_P], generator)
        positions, order = chosen[:budget].sort()
        token_ids_T = packed.token_ids_T.clone()
        token_ids_T[positions] = replacements_P[:budget][order]
        positions_M, count = in_slots(positions, num_slots, 0), torch.tensor(len(positions))
        targets = self._targets(packed.token_ids_T[positions_M], torch.arange(num_slots) < count)
        return QuestionedBatch(
            input=replace(packed.input, token_ids_T=token_ids_T),
            questions={TOKEN: Question(positions_M, targets, count)},
            clean=packed,
            groups=((TOKEN,),),
            candidates_P=candidates_P,
            replacements_P=replacements_P,
            num_candidates=torch.tensor(len(chosen)),
        )

    def _targets(self, token_ids_M: Tensor, is_used_M: Tensor) -> SoftTargets:
        """Return the right tokens with weight 1, and room for the model's own answer."""
        ids_MK = token_ids_M.where(is_used_M, 0)[:, None].repeat(1, 1 + self._num_answers)
        weights_MK = torch.zeros(ids_MK.shape, device=ids_MK.device)
        weights_MK[:, 0] = is_used_M.float()
        return SoftTargets(ids_MK, weights_MK)

    @torch.no_grad()
    def complete(self, encoder: Encoder, batch: CorruptedBatch) -> CorruptedBatch:
        """Let the model read the clean text; hide the candidates that it is least sure of."""
        assert isinstance(batch, QuestionedBatch)
        clean, question, device = batch.clean, batch.questions[TOKEN], batch.input.token_ids_T.device
        with evaluation_mode(encoder), torch.autocast(device.type, self._dtype, enabled=self._dtype != torch.float32):
            x_TD = encoder(clean.input)
            asked = self._ask(x_TD[batch.candidates_P], clean.token_ids_T[batch.candidates_P], encoder)
        rank_P = torch.arange(len(batch.candidates_P), device=device)
        hardness_P = torch.where(rank_P < batch.num_candidates, asked.losses_P, -math.inf)
        num_slots = len(question.positions_M)
        is_used_M = torch.arange(num_slots, device=device) < question.count
        hardest_M = hardness_P.argsort(descending=True, stable=True)[:num_slots]
        # Unused slots sort behind all positions, and then point at 0.
        num_tokens = len(batch.input.token_ids_T)
        positions_M = torch.where(is_used_M, batch.candidates_P[hardest_M], num_tokens)
        positions_M, order_M = positions_M.sort(stable=True)
        hardest_M = hardest_M[order_M]
        # One position more, where what unused slots would write ends up.
        token_ids_T = torch.cat([clean.token_ids_T, clean.token_ids_T[:1]])
        token_ids_T = token_ids_T.index_copy(0, positions_M, batch.replacements_P[hardest_M])[:num_tokens]
        positions_M = positions_M.masked_fill(~is_used_M, 0)
        targets = self._targets(clean.token_ids_T[positions_M], is_used_M)
        smoothing = self.config.smoothing
        targets.token_ids_MK[:, 1:] = asked.answers_PK[hardest_M]
        targets.weights_MK[:, 1:] = smoothing * asked.chances_PK[hardest_M] * is_used_M[:, None]
        targets.weights_MK[:, 0] *= 1 - smoothing
        return replace(
            batch,
            input=replace(batch.input, token_ids_T=token_ids_T),
            questions={TOKEN: Question(positions_M, targets, question.count)},
        )

    def _ask(self, x_PD: Tensor, right_ids_P: Tensor, encoder: Encoder) -> "_Answers":
        """Return what the model would say at the candidates; logits are made in pieces."""
        embedding_VE = encoder.embedding_weight_VE
        losses, answers, chances = [], [], []
        rows = rows_of_piece(len(x_PD), len(embedding_VE), x_PD.device.type)
        for piece in torch.arange(len(x_PD), device=x_PD.device).split(rows):
            log_p = self.vocabulary_head(x_PD[piece], embedding_VE).float().log_softmax(1)
            losses.append(-log_p.gather(1, right_ids_P[piece, None])[:, 0])
            top = log_p.topk(self._num_answers, dim=1)
            answers.append(top.indices)
            chances.append(top.values.softmax(1))
        return _Answers(torch.cat(losses), torch.cat(answers), torch.cat(chances))


@dataclass(frozen=True)
class _Answers:
    """What the model says at the candidates: their losses [P], the likeliest tokens and their shares [P, K]."""

    losses_P: Tensor
    answers_PK: Tensor
    chances_PK: Tensor
