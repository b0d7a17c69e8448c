"""Self-evolution: the model reads the clean text, the tokens it finds hard are hidden, and its own answer smooths them.

Source: Zhong et al. 2023, Self-Evolution Learning for Discriminative Language Model Pretraining, arXiv:2305.15275
    (questioning itself on the clean text, then hiding the hard tokens; token-specific label smoothing).
Departures: the hardest of `pool` times as many candidates, drawn uniformly, are hidden, instead of all above a
    threshold, so that the share of hidden tokens is exact and shapes are fixed. Of the model's answer the
    `smoothing_tokens` most likely tokens count, made to sum to 1. Single tokens are hidden, never whole words.
"""

import math
from dataclasses import dataclass, replace

import torch
from pydantic import Field, field_validator
from torch import Tensor

from maskwright.core.batches import UNUSED, CorruptedBatch, LossTerm, PackedBatch
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders.encoder import Encoder, EncoderConfig
from maskwright.encoders.flops import flops_per_token
from maskwright.heads.cross_entropy import rows_of_piece
from maskwright.heads.token_head import TokenHead
from maskwright.masking.phase_start import PhaseStart
from maskwright.masking.rates import rate_at
from maskwright.masking.replacement import Replacement
from maskwright.masking.selection import select_positions
from maskwright.objectives.base import scored_batch, scored_states
from maskwright.objectives.mlm import Mlm
from maskwright.semantics.self_dictionary import in_evaluation


@dataclass(frozen=True)
class QuestionedBatch(CorruptedBatch):
    """A corrupted batch of which the model may still choose what is hidden.

    Attributes:
        candidates_P: int64 [P], places that may be hidden, at least as many as slots; the first `num_candidates` count.
        replacements_P: int64 [P], what would stand there.
        num_candidates: int64 scalar.
        target_ids_MK: int64 [M, K], target tokens of each slot, the right one first.
        weights_MK: float [M, K], of the targets; 0 in unused slots.
    """

    candidates_P: Tensor
    replacements_P: Tensor
    num_candidates: Tensor
    target_ids_MK: Tensor
    weights_MK: Tensor


class SelfEvolution(Mlm):
    """MLM on the tokens that the model finds hard, with its own answer as part of the target."""

    citation = (
        "Zhong et al. 2023, Self-Evolution Learning for Discriminative Language Model Pretraining, arXiv:2305.15275"
    )

    class Config(Mlm.Config):
        """Options of `self_evolution`."""

        pool: float = Field(
            default=2.0, ge=1, description="candidates for each hidden token; the hardest of them are hidden, 1: as mlm"
        )
        smoothing: float = Field(
            default=0.1, ge=0, lt=1, description="share of the target that is the model's own answer on the clean text"
        )
        smoothing_tokens: int = Field(
            default=8, ge=1, description="how many of its most likely tokens make up that answer"
        )

        @field_validator("strategy")
        @classmethod
        def _hides_tokens(cls, value: dict[str, object]) -> dict[str, object]:
            if value["name"] != "token":
                raise ValueError(f"is {value['name']}; self_evolution chooses single tokens itself: leave it out")
            return value

    def __init__(self, config: Config, encoder: Encoder, vocabulary: Vocabulary, vocabulary_head: TokenHead) -> None:
        """See `Objective`."""
        super().__init__(config, encoder, vocabulary, vocabulary_head)
        self._options = config
        self._replacement = Replacement(config.mask_fraction, config.random_fraction, vocabulary)
        self._num_answers = min(config.smoothing_tokens, vocabulary.size)
        self._dtype = torch.float32
        self.needs_begin = True

    def begin(self, encoder: Encoder, start: PhaseStart) -> None:
        """Note the precision of the run."""
        self._dtype = start.dtype

    def flops_per_token(self, config: EncoderConfig, sequence_length: int) -> float:
        """Return the FLOPs of a training step per token, and of the forward pass over the clean text before it."""
        candidates = min(1.0, self._options.pool * self._options.highest_rate)
        return (
            super().flops_per_token(config, sequence_length) + flops_per_token(config, sequence_length, candidates) / 3
        )

    def corrupt(self, batch: PackedBatch, generator: torch.Generator, progress: float) -> QuestionedBatch:
        """Draw candidates, and what would stand in their place; until the model was asked, the first of them count."""
        rate, is_text_T = rate_at(self._options.rate, progress), self.is_text(batch)
        num_text, num_slots = int(is_text_T.sum()), math.ceil(rate * len(is_text_T))
        budget = max(1, round(rate * num_text))
        num_candidates = min(num_text, math.ceil(self._options.pool * budget))
        chosen = select_positions(is_text_T, torch.ones_like(is_text_T), num_candidates, generator)
        chosen = chosen[torch.rand(len(chosen), generator=generator).argsort()]
        candidates_P = torch.zeros(min(len(is_text_T), math.ceil(self._options.pool * num_slots)), dtype=torch.int64)
        candidates_P[: len(chosen)] = chosen
        replacements_P = self._replacement(batch.token_ids_T[candidates_P], generator)
        positions, order = chosen[:budget].sort()
        input_ids_T = batch.token_ids_T.clone()
        input_ids_T[positions] = replacements_P[:budget][order]
        scored = scored_batch(batch, input_ids_T, positions, num_slots, {"self_evolution": len(positions)})
        ids_MK, weights_MK = self._targets(scored.target_ids_M)
        return QuestionedBatch(
            **vars(scored),
            candidates_P=candidates_P,
            replacements_P=replacements_P,
            num_candidates=torch.tensor(len(chosen)),
            target_ids_MK=ids_MK,
            weights_MK=weights_MK,
        )

    def _targets(self, target_ids_M: Tensor) -> tuple[Tensor, Tensor]:
        """Return the right tokens with weight 1, and room for the model's own answer."""
        ids_MK = target_ids_M.clamp(min=0)[:, None].repeat(1, 1 + self._num_answers)
        weights_MK = torch.zeros(ids_MK.shape, device=ids_MK.device)
        weights_MK[:, 0] = (target_ids_M != UNUSED).float()
        return ids_MK, weights_MK

    @torch.no_grad()
    def complete(self, encoder: Encoder, batch: CorruptedBatch) -> CorruptedBatch:
        """Let the model read the clean text; hide the candidates that it is least sure of."""
        assert isinstance(batch, QuestionedBatch)
        clean, device = batch.clean, batch.input.token_ids_T.device
        with in_evaluation(encoder), torch.autocast(device.type, self._dtype, enabled=self._dtype != torch.float32):
            x_TD = encoder(clean.input)
            asked = self._ask(x_TD[batch.candidates_P], clean.token_ids_T[batch.candidates_P], encoder)
        rank_P = torch.arange(len(batch.candidates_P), device=device)
        hardness_P = torch.where(rank_P < batch.num_candidates, asked.losses_P, -math.inf)
        num_slots, is_used_M = len(batch.target_ids_M), batch.target_ids_M != UNUSED
        hardest_M = hardness_P.argsort(descending=True, stable=True)[:num_slots]
        # Unused slots sort behind all places, and then point at 0.
        num_tokens = len(batch.input.token_ids_T)
        places_M = torch.where(is_used_M, batch.candidates_P[hardest_M], num_tokens)
        places_M, order_M = places_M.sort(stable=True)
        hardest_M, positions_M = hardest_M[order_M], places_M.masked_fill(~is_used_M, 0)
        # One place more, where what unused slots would write ends up.
        input_ids_T = torch.cat([clean.token_ids_T, clean.token_ids_T[:1]])
        input_ids_T = input_ids_T.index_copy(0, places_M, batch.replacements_P[hardest_M])[:num_tokens]
        target_ids_M = torch.where(is_used_M, clean.token_ids_T[positions_M], UNUSED)
        ids_MK, weights_MK = self._targets(target_ids_M)
        smoothing = self._options.smoothing
        ids_MK[:, 1:] = asked.answers_PK[hardest_M]
        weights_MK[:, 1:] = smoothing * asked.chances_PK[hardest_M] * is_used_M[:, None]
        weights_MK[:, 0] *= 1 - smoothing
        return replace(
            batch,
            input=replace(batch.input, token_ids_T=input_ids_T),
            scored_positions_M=positions_M,
            target_ids_M=target_ids_M,
            target_ids_MK=ids_MK,
            weights_MK=weights_MK,
        )

    def _ask(self, x_PD: Tensor, right_ids_P: Tensor, encoder: Encoder) -> "_Answers":
        """Return what the model would say at the candidates; logits are made in pieces."""
        embedding_VD = encoder.embedding_weight_VD
        losses, answers, chances = [], [], []
        for piece in torch.arange(len(x_PD), device=x_PD.device).split(rows_of_piece(len(x_PD), len(embedding_VD))):
            log_p = self.vocabulary_head(x_PD[piece], embedding_VD).float().log_softmax(1)
            losses.append(-log_p.gather(1, right_ids_P[piece, None])[:, 0])
            top = log_p.topk(self._num_answers, dim=1)
            answers.append(top.indices)
            chances.append(top.values.softmax(1))
        return _Answers(torch.cat(losses), torch.cat(answers), torch.cat(chances))

    def loss(self, encoder: Encoder, batch: CorruptedBatch) -> tuple[LossTerm, ...]:
        """Cross-entropy with the smoothed targets at the selected positions."""
        assert isinstance(batch, QuestionedBatch)
        x_MD = scored_states(encoder, batch)
        losses = self.vocabulary_head.slot_losses(
            x_MD, batch.target_ids_MK, batch.weights_MK, encoder.embedding_weight_VD
        )
        return (LossTerm("self_evolution", losses.total, batch.term_counts["self_evolution"]),)


@dataclass(frozen=True)
class _Answers:
    """What the model says at the candidates: their losses [P], the likeliest tokens and their shares [P, K]."""

    losses_P: Tensor
    answers_PK: Tensor
    chances_PK: Tensor
