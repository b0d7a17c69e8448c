"""Late masks: the encoder reads the tokens that were not masked; [MASK] comes later, to a small decoder.

Source: Liao et al. 2022, Mask More and Mask Later, arXiv:2211.04898: decoders of self- and of cross-attention, masks
    that enter within the stack, [MASK] apart from the word embeddings, a rate of 50 %, random tokens that stay in the
    encoder. No code of it was released. An encoder that never sees [MASK], below a decoder that is thrown away, is also
    in Meng et al. 2024, Representation Deficiency in Masked Language Modeling, ICLR.
Departures: every row loses the same number of tokens, so that shapes are fixed. The decoder's blocks are those that a
    deeper encoder of the family would have, with the encoder's final norm after them. In `cross` masks see visible
    tokens alone, not each other. Two decoder layers and BERT's 80/10/10 are what the published compute agrees with.
Cost: at the default rate about three quarters of a step of mlm at the same rate, more of short sequences
    (docs/late_mask.md has measurements).
Prefer: when the budget is fixed in time and the rate is 40 % or more; end with a short phase of mlm if the encoder
    itself is to fill masks.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from maskwright.core.batches import CorruptedBatch, PackedBatch, Reading, asked_positions
from maskwright.core.errors import RecipeError
from maskwright.core.randomness import torch_generator
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import Encoder
from maskwright.encoders.flops import block_flops_per_token
from maskwright.encoders.token_dropping import drop_tokens
from maskwright.heads.token_head import TokenHead
from maskwright.masking.phase_start import PhaseStart
from maskwright.masking.rates import Rate
from maskwright.masking.row_masking import RowMasking
from maskwright.models.late_decoder import LateDecoder, LateInput, LateMaskOptions, LateReader
from maskwright.models.outcome import FillsMasks
from maskwright.objectives.masked import MaskedConfig, MaskedObjective


@dataclass(frozen=True)
class LateMaskBatch(CorruptedBatch):
    """A corrupted batch whose masks are left out of what the early blocks read."""

    late: LateInput


class LateMaskConfig(MaskedConfig):
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
            raise ValueError("insert_at has no decoder, so decoder: cross has no meaning with it; give one of them")
        return self

    def late_masks(self, num_layers: int) -> LateMaskOptions:
        """Return how masks come in above an encoder of so many layers."""
        if self.insert_at is not None:
            return LateMaskOptions(self.insert_at, 0, self.decoder, self.mask_vector)
        return LateMaskOptions(num_layers, self.decoder_layers, self.decoder, self.mask_vector)


class LateMask(MaskedObjective):
    """3ML: the encoder reads what is not masked, so that a step costs less; masks come in for the last layers.

    A short last phase of `mlm` makes [MASK] work at the encoder's input too (docs/late_mask.md).
    """

    citation = "Liao et al. 2022, Mask More and Mask Later, Findings of EMNLP 2022, arXiv:2211.04898"
    Config = LateMaskConfig
    mask_reader: ClassVar[FillsMasks] = "reader"
    masking: RowMasking

    def __init__(
        self, config: LateMaskConfig, encoder: Encoder, vocabulary: Vocabulary, vocabulary_head: TokenHead
    ) -> None:
        super().__init__(config, encoder, vocabulary, vocabulary_head)
        self.late = config.late_masks(encoder.config.num_layers)
        self.decoder = LateDecoder(encoder, self.late, vocabulary.mask_id)
        self.initialize(torch_generator(0, "late_mask"))

    def make_masking(self) -> RowMasking:
        """See `MaskedObjective`: every row loses as many tokens."""
        return RowMasking(self.config, self.vocabulary)

    @classmethod
    def require_fit(
        cls, options: Any, encoder_class: type[Encoder], encoder: EncoderConfig, sequence_length: int
    ) -> None:
        """See `Objective`: the encoder must run in pieces."""
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
        super().require_fit(options, encoder_class, encoder, sequence_length)

    def initialize(self, generator: torch.Generator) -> None:
        self.decoder.initialize(generator)
        super().initialize(generator)

    def begin(self, encoder: Encoder, start: PhaseStart) -> None:
        """See `Objective`: learn how much of a row is text, where documents are short and special tokens many."""
        train = start.corpus.manifest.splits["train"]
        self.masking.text_share = train.num_tokens / (train.num_tokens + 2 * train.num_documents)
        super().begin(encoder, start)

    def corrupt(self, packed: PackedBatch, generator: torch.Generator, progress: float) -> LateMaskBatch:
        """See `Objective`: select and replace tokens, and leave the masks out."""
        hidden = self.masking(packed, self.is_text(packed), generator, progress)
        late_layout = packed.layout
        if self.config.decoder == "cross":
            late_layout = replace(packed.layout, is_visible_T=~self.decoder.is_mask(hidden.input.token_ids_T))
        late = LateInput(hidden.input, drop_tokens(packed.layout, hidden.is_dropped_T), late_layout)
        return LateMaskBatch(**vars(self.asked(packed, hidden, generator, progress)), late=late)

    def read(self, encoder: Encoder, batch: CorruptedBatch) -> Reading:
        """See `Objective`: early blocks read what is not masked, late ones everything."""
        assert isinstance(batch, LateMaskBatch)
        return Reading.of(self.decoder.read(encoder, batch.late, asked_positions(batch)), batch)

    def reader(self, encoder: Encoder) -> nn.Module:
        """See `Objective`: the encoder with the decoder."""
        return LateReader(encoder, self.decoder)

    def reading_flops(self, config: EncoderConfig, sequence_length: int) -> float:
        """See `Objective`: early blocks see what is left, late ones everything; the last is wanted at scored positions.

        `tests/unit/objectives/test_late_mask.py` compares it with torch's counter.
        """
        rate, late = self.config.highest_rate, self.late
        masked = self.masking.num_dropped(sequence_length, rate) / sequence_length
        left = 1 - masked
        windows = config.attention_windows(late.num_layers)
        before, after = windows[: late.entrance], windows[late.entrance :]
        is_cross = late.decoder == "cross"
        wanted = [masked] * len(after) if is_cross else [1.0] * (len(after) - 1) + [rate]
        return left * sum(
            block_flops_per_token(config, window and left * window, left * sequence_length) for window in before
        ) + sum(
            block_flops_per_token(config, window, sequence_length, share)
            for window, share in zip(after, wanted, strict=True)
        )
