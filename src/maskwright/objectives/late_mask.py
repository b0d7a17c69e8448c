"""Late masks: the encoder reads the tokens that were not masked; [MASK] comes later, to a small decoder.

Source: Liao et al. 2022, Mask More and Mask Later, arXiv:2211.04898: decoders of self- and of cross-attention, masks
    that enter within the stack, [MASK] apart from the word embeddings, a rate of 50 %, random tokens that stay in the
    encoder. No code of it was released. An encoder that never sees [MASK], below a decoder that is thrown away, is also
    in Meng et al. 2024, Representation Deficiency in Masked Language Modeling, ICLR.
Departures: every row loses the same number of tokens, so that shapes are fixed. The decoder's blocks are those that a
    deeper encoder of the family would have, with the encoder's final norm after them. In `cross` masks see visible
    tokens alone, not each other. Two decoder layers and BERT's 80/10/10 are what the published compute agrees with.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from maskwright.core.batches import CorruptedBatch, EncoderInput, LossTerm, PackedBatch, SequenceLayout
from maskwright.core.errors import RecipeError
from maskwright.core.randomness import torch_generator
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders.build import more_blocks
from maskwright.encoders.encoder import Encoder, EncoderConfig, truncated_normal_
from maskwright.encoders.flops import block_flops_per_token, head_flops_per_token
from maskwright.encoders.token_dropping import DroppedTokens, drop_tokens, fill_gaps
from maskwright.heads.token_head import TokenHead
from maskwright.masking.masking import MaskingOptions, require_masks_and_text
from maskwright.masking.phase_start import PhaseStart
from maskwright.masking.rates import Rate
from maskwright.masking.row_masking import RowMasking
from maskwright.objectives.base import Objective, scored_batch


@dataclass(frozen=True)
class LateMaskBatch(CorruptedBatch):
    """A corrupted batch whose masks are left out.

    Attributes:
        dropped: where the other tokens lie.
        late_layout: who sees whom after the masks have come in.
    """

    dropped: DroppedTokens
    late_layout: SequenceLayout


class LateMaskConfig(MaskingOptions):
    """Options of `late_mask`; the rate is the paper's, the rest what its published compute agrees with."""

    rate: Rate = Field(
        default=0.50,
        description="share of the text tokens that are scored, in (0, 1), or {start, end, shape} over the phase; "
        "0.50 as 3ML: the more is masked, the less the encoder reads",
    )
    mask_fraction: float = Field(
        default=0.8, ge=0, le=1, description="share of the selected tokens that the encoder does not read (BERT: 0.8)"
    )
    random_fraction: float = Field(
        default=0.1, ge=0, le=1, description="share replaced by a random token, which the encoder reads (BERT: 0.1)"
    )
    kept_fraction: float = Field(
        default=0.1, ge=0, le=1, description="share that the encoder reads as it is, but scored (BERT: 0.1)"
    )
    insert_at: int | None = Field(
        default=None,
        ge=0,
        description="masks join after so many blocks of the encoder, and there is no decoder; default: after the last",
    )
    decoder: Literal["self", "cross"] = Field(
        default="self",
        description="self: all tokens see each other in the decoder; cross: masks see the visible tokens, which stay "
        "as the encoder left them",
    )
    decoder_layers: int = Field(default=2, ge=1, description="blocks of the decoder; dropped by the export")
    mask_vector: Literal["own", "embedding"] = Field(
        default="own", description="what stands for [MASK]: a vector of its own, or its row of the token embedding"
    )

    @model_validator(mode="after")
    def _there_is_a_decoder_to_cross(self) -> Self:
        if self.insert_at is not None and self.decoder == "cross":
            raise ValueError("insert_at has no decoder, so decoder: cross has no meaning beside it; give one of them")
        return self

    @property
    def num_decoder_layers(self) -> int:
        """How many blocks there are beside the encoder's."""
        return self.decoder_layers if self.insert_at is None else 0


class LateMask(Objective):
    """3ML: the encoder reads what is not masked, so that a step costs less; masks come in for the last layers.

    A short last phase of `mlm` makes [MASK] work at the encoder's input too (docs/late_mask.md).
    """

    citation = "Liao et al. 2022, Mask More and Mask Later, Findings of EMNLP 2022, arXiv:2211.04898"
    Config = LateMaskConfig
    masks_at_input: ClassVar[bool] = False

    def __init__(
        self, config: LateMaskConfig, encoder: Encoder, vocabulary: Vocabulary, vocabulary_head: TokenHead
    ) -> None:
        """See `Objective`."""
        super().__init__(config, encoder, vocabulary, vocabulary_head)
        self.config: LateMaskConfig = config
        self._encoder_class, self._encoder_config = type(encoder), encoder.config
        self._masking = RowMasking(config, vocabulary)
        self.needs_begin = self._masking.strategy.needs_begin
        self.mask_vector = None
        if config.mask_vector == "own":
            self.mask_vector = nn.Parameter(torch.empty(encoder.config.hidden_size))
        self.initialize(torch_generator(0, "late_mask"))

    @classmethod
    def require_fit(
        cls, options: LateMaskConfig, encoder_class: type[Encoder], encoder: EncoderConfig, sequence_length: int
    ) -> None:
        """See `Objective`: the encoder must run in pieces, and sequences have visible and masked tokens."""
        if encoder_class.is_foreign:
            raise RecipeError(
                f"its encoder is a {encoder_class.__name__}, which can't run in pieces",
                "a family of ours, such as modernbert, bert or deberta",
            )
        if options.insert_at is not None and options.insert_at >= encoder.num_layers:
            raise RecipeError(
                f"insert_at: {options.insert_at}, the encoder has {encoder.num_layers} layers",
                f"0 (before the first) to {encoder.num_layers - 1} (before the last); leave it out for a decoder",
            )
        require_masks_and_text(options, sequence_length)

    def initialize(self, generator: torch.Generator) -> None:
        """See `Objective`: the decoder as a deeper encoder of the family, the mask's vector as a token's."""
        self.decoder_blocks = more_blocks(
            self._encoder_class, self._encoder_config, self.config.num_decoder_layers, generator
        )
        if self.mask_vector is not None:
            with torch.no_grad():
                truncated_normal_(self.mask_vector, self._encoder_config.initializer_range, generator)

    def begin(self, encoder: Encoder, start: PhaseStart) -> None:
        """See `Objective`: learn how much of a row is text, where documents are short and special tokens many."""
        train = start.corpus.manifest.splits["train"]
        self._masking.strategy.begin(start)
        self._masking.text_share = train.num_tokens / (train.num_tokens + 2 * train.num_documents)

    def reader(self, encoder: Encoder) -> nn.Module:
        """See `Objective`: the encoder with the decoder."""
        return LateReader(encoder, self)

    def after_step(self, encoder: Encoder, num_steps: int) -> None:
        """See `Objective`: let the strategy learn from the step."""
        self._masking.strategy.after_step(num_steps)

    def scored_fraction(self) -> float:
        """The highest mask rate."""
        return self.config.highest_rate

    def flops_per_token(self, config: EncoderConfig, sequence_length: int) -> float:
        """See `Objective`: early blocks see what is left, late ones everything, the last is wanted where it is scored.

        `tests/unit/objectives/test_late_mask.py` compares it with torch's counter.
        """
        rate = self.config.highest_rate
        masked = self._masking.num_dropped(sequence_length, rate) / sequence_length
        left = 1 - masked
        windows = config.attention_windows(self.config.num_decoder_layers)
        early, late = windows[: self.entrance], windows[self.entrance :]
        is_cross = self.config.decoder == "cross"
        wanted = [masked] * len(late) if is_cross else [1.0] * (len(late) - 1) + [rate]
        return (
            left
            * sum(block_flops_per_token(config, window and left * window, left * sequence_length) for window in early)
            + sum(
                block_flops_per_token(config, window, sequence_length, share)
                for window, share in zip(late, wanted, strict=True)
            )
            + rate * head_flops_per_token(config)
        )

    def corrupt(self, batch: PackedBatch, generator: torch.Generator, progress: float) -> LateMaskBatch:
        """Select `rate` of the text tokens, replace them, and leave the masks out."""
        masked = self._masking(batch, self.is_text(batch), generator, progress)
        counts = {"late_mask": len(masked.positions)}
        scored = scored_batch(batch, masked.input_ids_T, masked.positions, masked.num_slots, counts)
        late_layout = batch.layout
        if self.config.decoder == "cross":
            late_layout = replace(batch.layout, is_visible_T=masked.input_ids_T != self.vocabulary.mask_id)
        return LateMaskBatch(
            **vars(scored), dropped=drop_tokens(batch.layout, masked.is_dropped_T), late_layout=late_layout
        )

    def loss(self, encoder: Encoder, batch: CorruptedBatch) -> tuple[LossTerm, ...]:
        """Cross-entropy at the selected positions; the head sees no others."""
        assert isinstance(batch, LateMaskBatch)
        x_MD = encoder.final_norm(self._scored_states(encoder, batch))
        total = self._masking.strategy.taught_cross_entropy(
            self.vocabulary_head, x_MD, batch.target_ids_M, encoder.embedding_weight_VD
        )
        return (LossTerm("late_mask", total, batch.term_counts["late_mask"]),)

    @property
    def entrance(self) -> int:
        """Number of blocks that run before the masks come in."""
        return self._encoder_config.num_layers if self.config.insert_at is None else self.config.insert_at

    def _scored_states(self, encoder: Encoder, batch: LateMaskBatch) -> Tensor:
        """Return hidden states at the scored places before the final norm, float [M, D]."""
        dropped, layout = batch.dropped, batch.input.layout
        visible = EncoderInput(batch.input.token_ids_T[dropped.kept_N], dropped.layout)
        x_ND = encoder.run_blocks(encoder.embed(visible), dropped.layout, stop=self.entrance)
        gaps_K = dropped.gaps_K
        masks_KD = self.embedded_masks(encoder, layout.position_ids_T[gaps_K], layout.segment_ids_T[gaps_K])
        if self.config.decoder == "cross":
            return self._crossed(encoder, batch, x_ND, masks_KD)[batch.scored_positions_M]
        return encoder.run_blocks(
            fill_gaps(x_ND, masks_KD, dropped),
            batch.late_layout,
            start=self.entrance,
            positions_M=batch.scored_positions_M,
            extra=self.decoder_blocks,
        )

    def embedded_masks(self, encoder: Encoder, position_ids_K: Tensor, segment_ids_K: Tensor) -> Tensor:
        """Return what stands for masks at some positions as the family embeds it, float [K, D]."""
        vector_D = self.mask_vector
        if vector_D is None:
            vector_D = encoder.embedding_weight_VD[self.vocabulary.mask_id]
        return encoder.embed_vectors(vector_D.expand(len(position_ids_K), -1), position_ids_K, segment_ids_K)

    def _crossed(self, encoder: Encoder, batch: LateMaskBatch, x_ND: Tensor, masks_KD: Tensor) -> Tensor:
        """Return the hidden states after the decoder, where only the masks change, float [T, D]."""
        for index in range(self.entrance, self.entrance + self.config.decoder_layers):
            masks_KD = encoder.run_blocks(
                fill_gaps(x_ND, masks_KD, batch.dropped),
                batch.late_layout,
                start=index,
                stop=index + 1,
                positions_M=batch.dropped.gaps_K,
                extra=self.decoder_blocks,
            )
        return fill_gaps(x_ND, masks_KD, batch.dropped)


class LateReader(nn.Module):
    """Reads masked text as `late_mask` does, whatever the number of masks in a row.

    Nothing is left out: masks are there all the time, but nobody sees them until they come in, which gives the same
    states (`tests/unit/objectives/test_late_mask.py`).
    """

    def __init__(self, encoder: Encoder, objective: LateMask) -> None:
        """Join the two; neither is copied."""
        super().__init__()
        self.encoder, self.objective = encoder, objective

    def forward(self, input: EncoderInput, positions_M: Tensor | None = None) -> Tensor:
        """Return the states from which masked tokens are predicted, float [M, D]; see `Encoder.forward`."""
        encoder, objective, entrance, layout = self.encoder, self.objective, self.objective.entrance, input.layout
        is_mask_T1 = (input.token_ids_T == objective.vocabulary.mask_id)[:, None]
        hidden = replace(layout, is_visible_T=~is_mask_T1[:, 0])
        x_TD = encoder.run_blocks(encoder.embed(input), hidden, stop=entrance)
        masks_TD = objective.embedded_masks(encoder, layout.position_ids_T, layout.segment_ids_T).to(x_TD.dtype)
        x_TD = torch.where(is_mask_T1, masks_TD, x_TD)
        blocks = objective.decoder_blocks
        if objective.config.decoder == "self":
            late_TD = encoder.run_blocks(x_TD, layout, start=entrance, positions_M=positions_M, extra=blocks)
            return encoder.final_norm(late_TD)
        for index in range(entrance, entrance + len(blocks)):
            late_TD = encoder.run_blocks(x_TD, hidden, start=index, stop=index + 1, extra=blocks)
            x_TD = torch.where(is_mask_T1, late_TD, x_TD)
        return encoder.final_norm(x_TD if positions_M is None else x_TD[positions_M])
