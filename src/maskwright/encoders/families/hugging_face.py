"""Any encoder of transformers behind our interface: a trained model that no family of ours reads.

Source: the class that a model folder names; its paper is the model's own.
Departures: none, the class itself computes. It takes a padded batch, so a packed one is unpacked before and packed
    again after it; what lies within the class (embeddings, blocks, final norm) can't be run in pieces.
"""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from maskwright.core.batches import SequenceLayout
from maskwright.core.errors import RecipeError
from maskwright.encoders.attention import backend
from maskwright.encoders.encoder import Encoder, EncoderConfig, no_such_layer

NO_LIMIT = 1 << 20
"""Longest sequence of models whose positions have no end."""


class HuggingFaceConfig(EncoderConfig):
    """What is known of a model of transformers; 0 where its configuration does not say."""

    model_type: str = Field(description="transformers' name of the architecture, such as roberta")
    num_layers: int = Field(default=0, ge=0, description="number of blocks")
    num_heads: int = Field(default=0, ge=0, description="attention heads, H")
    feed_forward_size: int = Field(default=0, ge=0, description="inner width of the feed-forward part, F")

    @model_validator(mode="after")
    def _heads_divide_the_hidden_size(self) -> Self:
        """Leave the shape to the class that has it; only our own families need an even head size."""
        return self

    @classmethod
    def of(cls, body: PreTrainedModel) -> Self:
        """Describe a model."""
        theirs = body.config
        return cls(
            model_type=theirs.model_type,
            vocabulary_size=body.get_input_embeddings().num_embeddings,  # pyright: ignore[reportArgumentType]
            hidden_size=theirs.hidden_size,
            num_layers=_number(theirs, "num_hidden_layers"),
            num_heads=_number(theirs, "num_attention_heads"),
            feed_forward_size=_number(theirs, "intermediate_size"),
            max_positions=position_limit(body),
            pad_token_id=getattr(theirs, "pad_token_id", None) or 0,
        )


class HuggingFace(Encoder):
    """A model of transformers without its head."""

    Config = HuggingFaceConfig
    SIZES: ClassVar[Mapping[str, Mapping[str, int]]] = {}
    citation = "Wolf et al. 2020, Transformers: State-of-the-Art Natural Language Processing, arXiv:1910.03771"
    makes_new = False

    def __init__(self, config: HuggingFaceConfig, body: PreTrainedModel) -> None:
        """Wrap a model; it is used as it is.

        Args:
            config: its description, `HuggingFaceConfig.of(body)`.
            body: the model without a head.
        """
        super().__init__(config)
        self.config: HuggingFaceConfig = config
        self.body = body
        takes_token_types = "token_type_ids" in inspect.signature(body.forward).parameters
        self._has_token_types = takes_token_types and _number(body.config, "type_vocab_size") > 1

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers: the longest list of modules of the body; empty if it has none."""
        lists = [part for part in self.body.modules() if isinstance(part, nn.ModuleList)]
        return max(lists, key=len, default=nn.ModuleList())

    @property
    def embedding_weight_VD(self) -> Tensor:
        """See `Encoder`; some architectures have embeddings narrower than their hidden states."""
        weight = self.body.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        return weight

    def forward(
        self,
        token_ids_T: Tensor,
        position_ids_T: Tensor,
        segment_ids_T: Tensor,
        layout: SequenceLayout,
        causal: bool = False,
        at_M: Tensor | None = None,
    ) -> Tensor:
        """See `Encoder`; positions are the body's own business, and padding gets zeros.

        `tests/parity/test_foreign_models.py` compares hidden states and gradients with those of the body alone.

        Raises:
            RecipeError: causal attention was asked for.
        """
        if causal:
            _refuse("attend causally")
        x_TD = self._hidden_states(token_ids_T, segment_ids_T, layout, layer=None)
        return x_TD if at_M is None else x_TD[at_M]

    def states_of_layer(
        self,
        layer: int,
        token_ids_T: Tensor,
        position_ids_T: Tensor,
        segment_ids_T: Tensor,
        layout: SequenceLayout,
    ) -> Tensor:
        """See `Encoder`; the body runs to its end, whatever the layer."""
        return self._hidden_states(token_ids_T, segment_ids_T, layout, layer)

    def _hidden_states(
        self, token_ids_T: Tensor, segment_ids_T: Tensor, layout: SequenceLayout, layer: int | None
    ) -> Tensor:
        """Return the hidden states [T, D] of a layer; None is the body's output."""
        pad_id = self.config.pad_token_id
        place_SL, is_real_SL = padded_places(token_ids_T == pad_id, layout.sequence_starts)
        inputs = {
            "input_ids": token_ids_T[place_SL].masked_fill(~is_real_SL, pad_id),
            "attention_mask": is_real_SL.long(),
        }
        if self._has_token_types:
            inputs["token_type_ids"] = segment_ids_T[place_SL].masked_fill(~is_real_SL, 0)
        if layer is None:
            x_SLD = self.body(**inputs)[0]
        else:
            states = self.body(**inputs, output_hidden_states=True).hidden_states
            if not 0 <= layer < len(states):
                raise no_such_layer(layer, len(states) - 1)
            x_SLD = states[layer]
        x_TD = x_SLD.new_zeros(len(token_ids_T), x_SLD.shape[-1])
        return x_TD.index_copy(0, place_SL[is_real_SL], x_SLD[is_real_SL])

    def use_attention(self, backend_name: str) -> None:
        """Check the name and change nothing: attention is computed within the body, in its own way."""
        backend(backend_name)

    def initialize(self, generator: torch.Generator) -> NoReturn:
        """Refuse: the weights are those of the folder."""
        _refuse("draw new weights")

    def embed(self, token_ids_T: Tensor, position_ids_T: Tensor, segment_ids_T: Tensor) -> NoReturn:
        """Refuse: see the module."""
        _refuse("run in pieces")

    def run_blocks(
        self,
        x_TD: Tensor,
        position_ids_T: Tensor,
        layout: SequenceLayout,
        start: int = 0,
        stop: int | None = None,
        causal: bool = False,
    ) -> NoReturn:
        """Refuse: see the module."""
        _refuse("run in pieces")

    def final_norm(self, x_TD: Tensor) -> NoReturn:
        """Refuse: see the module."""
        _refuse("run in pieces")


def padded_places(is_pad_T: Tensor, sequence_starts: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each token of a padded batch lies in the packed one.

    Args:
        is_pad_T: bool [T], true where a token is padding.
        sequence_starts: int32 [S + 1], cumulative starts. Empty sequences, and those of padding alone, are left out.

    Returns:
        Places in T, int64 [S', L], L the longest sequence; and which of them are real, bool [S', L]. The others are 0.
    """
    starts = sequence_starts.long()
    num_real = torch.cat([starts.new_zeros(1), (~is_pad_T).long().cumsum(0)])[starts].diff()
    is_kept = num_real > 0
    starts_S, lengths_S = starts[:-1][is_kept], starts.diff()[is_kept]
    place_L = torch.arange(int(lengths_S.max()) if len(lengths_S) else 0, device=starts.device)
    is_real_SL = place_L < lengths_S[:, None]
    return (starts_S[:, None] + place_L).masked_fill(~is_real_SL, 0), is_real_SL


def position_limit(body: PreTrainedModel) -> int:
    """Return the longest sequence a model takes, specials included.

    RoBERTa and its kin have 514 positions and count from the one after padding's, so that 512 are left.
    """
    size = _number(body.config, "max_position_embeddings")
    for name, part in body.named_modules():
        if isinstance(part, nn.Embedding) and "position" in name and part.num_embeddings == size:
            return size if part.padding_idx is None else size - part.padding_idx - 1
    return size or NO_LIMIT


def _number(config: PretrainedConfig, key: str) -> int:
    """Return a whole number of a configuration; 0 where it has none, or one for each layer."""
    value: Any = getattr(config, key, 0)
    return value if isinstance(value, int) else 0


def _refuse(wish: str) -> NoReturn:
    raise RecipeError(
        f"the family hugging_face can't {wish}: it runs a model of transformers as a whole",
        "an encoder of a family of ours, such as modernbert or bert",
    )
