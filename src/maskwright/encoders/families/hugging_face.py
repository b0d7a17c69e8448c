"""Any masked encoder of transformers behind our interface, new or trained before.

Source: the class that transformers has for the `model_type`; its paper is the model's own.
Departures: none, the class itself computes. It takes a padded batch, so a packed one is unpacked before and packed
    again after it; what lies within the class (embeddings, blocks, final norm) can't be run in pieces.
"""

import inspect
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, NoReturn, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from transformers import PreTrainedModel

from maskwright.core.batches import EncoderInput, SequenceLayout
from maskwright.core.errors import RecipeError
from maskwright.encoders.attention import OWN_ATTENTION, backend
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import Encoder, no_such_layer
from maskwright.encoders.masked_architectures import (
    POSITIONS,
    config_of,
    drawn_model,
    empty_model,
    keys_of,
    layers_of,
    number,
    own_values,
    position_limit,
    require_padding_is_ignored,
)


class HuggingFaceConfig(EncoderConfig):
    """What decides a model of transformers, and what is known of it; numbers are 0 if nothing says them."""

    not_overridden = frozenset(EncoderConfig.model_fields) | {"keys", "block_parameters", "head_parameters"}

    model_type: str = Field(
        description="transformers' name of the architecture, such as roberta; any key of that "
        "architecture's `config.json`, such as hidden_size"
    )
    keys: dict[str, Any] = Field(description="what decides the model, by transformers' keys")
    num_layers: int = Field(default=0, ge=0, description="number of blocks")
    num_heads: int = Field(default=0, ge=0, description="attention heads, H")
    feed_forward_size: int = Field(default=0, ge=0, description="inner width of the feed-forward part, F")
    block_parameters: int = Field(ge=0, description="weights in the matrices of one block")
    head_parameters: int = Field(ge=0, description="weights in the matrices of the vocabulary head")

    @model_validator(mode="after")
    def _heads_divide_the_hidden_size(self) -> Self:
        """Leave the shape to the class that has it; only our own families need an even head size."""
        return self

    @classmethod
    def option_names(cls, overrides: Mapping[str, Any]) -> Collection[str]:
        """See `EncoderConfig`: transformers' own keys of the `model_type`."""
        return {"model_type", *keys_of(_model_type(overrides))}

    @classmethod
    def of_options(cls, options: Mapping[str, Any]) -> Self:
        """See `EncoderConfig`; what follows from tokenizer and phases fills the keys that say so.

        Raises:
            RecipeError: transformers does not take them, or there are fewer positions than are asked for.
        """
        model_type, wanted = _model_type(options), options["max_positions"]
        known = keys_of(model_type)
        decided = {
            "vocab_size": options["vocabulary_size"],
            "bos_token_id": options["cls_token_id"],
            "eos_token_id": options["sep_token_id"],
            POSITIONS: wanted,
        }
        values = {key: value for key, value in {**decided, **options}.items() if key in known}
        config = cls.of(empty_model(config_of(model_type, values)))
        if config.max_positions < wanted and POSITIONS in known - options.keys():
            # Some architectures number their positions from one after padding's id.
            values[POSITIONS] += wanted - config.max_positions
            config = cls.of(empty_model(config_of(model_type, values)))
        if config.max_positions < wanted:
            raise RecipeError(
                f"encoder: this {model_type} has positions for {config.max_positions} tokens, the longest sequence has "
                f"{wanted}",
                f"shorter sequences, or a larger {POSITIONS}",
            )
        return config

    @classmethod
    def of(cls, model: PreTrainedModel) -> Self:
        """Describe a model with its head; it may be without storage.

        Raises:
            RecipeError: it is no stack of blocks over embedded tokens.
        """
        theirs, body = model.config, model.base_model
        assert isinstance(body, PreTrainedModel)
        embedding, layers = body.get_input_embeddings(), layers_of(body)
        if not isinstance(embedding, nn.Embedding) or not number(theirs, "hidden_size"):
            raise RecipeError(
                f"encoder: {type(model).__name__} has no single token embedding or no single hidden size",
                "an architecture of one stack of blocks over tokens, such as bert or roberta",
            )
        in_blocks = sum(weight.numel() for weight in layers.parameters() if weight.ndim > 1)
        in_body = {id(weight) for weight in body.parameters()}
        of_head: list[Tensor] = [
            weight for weight in model.parameters() if weight.ndim > 1 and id(weight) not in in_body
        ]
        if not any(len(weight) == embedding.num_embeddings for weight in of_head):
            of_head.append(embedding.weight)  # the decoder is tied to it
        known = {
            "initializer_range": getattr(theirs, "initializer_range", None),
            "norm_eps": getattr(theirs, "layer_norm_eps", None) or getattr(theirs, "norm_eps", None),
        }
        return cls(
            model_type=theirs.model_type,
            keys=own_values(theirs),
            vocabulary_size=embedding.num_embeddings,
            hidden_size=theirs.hidden_size,
            num_layers=number(theirs, "num_hidden_layers") or len(layers),
            num_heads=number(theirs, "num_attention_heads"),
            feed_forward_size=number(theirs, "intermediate_size", "hidden_dim", "ffn_dim"),
            max_positions=position_limit(body),
            pad_token_id=getattr(theirs, "pad_token_id", None) or 0,
            cls_token_id=getattr(theirs, "bos_token_id", None),
            sep_token_id=getattr(theirs, "eos_token_id", None),
            block_parameters=in_blocks // max(1, len(layers)),
            head_parameters=sum(weight.numel() for weight in of_head),
            **{key: value for key, value in known.items() if value},
        )

    def overrides(self) -> dict[str, Any]:
        return {"model_type": self.model_type, **self.keys}

    def block_matrix_parameters(self) -> int:
        return self.block_parameters

    def head_matrix_parameters(self) -> int:
        return self.head_parameters

    def attention_products(self) -> int:
        """See `EncoderConfig`; DeBERTa scores distances too, twice as many as there are keys."""
        return 2 + 2 * len(self.keys.get("pos_att_type") or ())


class HuggingFace(Encoder):
    """A model of transformers without its head, by `model_type` and any keys of that architecture's configuration."""

    Config = HuggingFaceConfig
    SIZES: ClassVar[Mapping[str, Mapping[str, int]]] = {}
    citation = "Wolf et al. 2020, Transformers: State-of-the-Art Natural Language Processing, arXiv:1910.03771"
    is_foreign = True

    def __init__(self, config: HuggingFaceConfig, model: PreTrainedModel | None = None) -> None:
        """Wrap a model; it is used as it is.

        Args:
            config: its description, `HuggingFaceConfig.of(model)`.
            model: with its head; by default a new one without storage, until `initialize`.
        """
        super().__init__(config)
        self.config: HuggingFaceConfig = config
        self._take(model or empty_model(config_of(config.model_type, config.keys)))
        self.register_state_dict_post_hook(_name_layers_once)
        self.register_load_state_dict_pre_hook(_name_layers_twice)

    def _take(self, whole: PreTrainedModel) -> None:
        # In a tuple, so that the head's weights are not the encoder's too.
        self._whole = (whole,)
        body = whole.base_model
        assert isinstance(body, PreTrainedModel) and body is not whole
        # Before the body, so that the weights of the layers go by the names that those of all families have.
        self.blocks = layers_of(body)
        # Layers of transformers declare no role for optimizers.
        self.blocks.role = "block"  # pyright: ignore[reportArgumentType]
        self.body = body
        self._path_of_layers = next((name for name, part in body.named_modules() if part is self.blocks), "")
        takes_token_types = "token_type_ids" in inspect.signature(body.forward).parameters
        self._has_token_types = takes_token_types and number(body.config, "type_vocab_size") > 1

    @property
    def whole(self) -> PreTrainedModel:
        """The model with its head, which `heads/foreign.py` makes a head of ours; they share every weight."""
        return self._whole[0]

    def initialize(self, generator: torch.Generator) -> None:
        """Replace this model by a new one; the code of transformers draws its weights.

        Raises:
            RecipeError: it can't be run on padded batches of plain text.
        """
        model = drawn_model(self.whole.config, generator)
        require_padding_is_ignored(model)
        self._take(model)

    @property
    def embedding_weight_VE(self) -> Tensor:
        """See `Encoder`; some architectures have embeddings narrower than their hidden states."""
        weight = self.body.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, input: EncoderInput, positions_M: Tensor | None = None) -> Tensor:
        """See `Encoder`; positions are the body's own business, and padding gets zeros.

        `tests/parity/test_foreign_models.py` compares hidden states and gradients with those of the body alone.

        Raises:
            RecipeError: some sequence is causal.
        """
        if input.layout.is_all_causal or input.layout.is_causal_S is not None:
            _refuse("attend causally")
        x_TD = self._hidden_states(input, layer=None)
        return x_TD if positions_M is None else x_TD[positions_M]

    def states_of_layer(self, layer: int, input: EncoderInput) -> Tensor:
        """See `Encoder`; the body runs to its end, whatever the layer."""
        return self._hidden_states(input, layer)

    def _hidden_states(self, input: EncoderInput, layer: int | None) -> Tensor:
        """Return the hidden states [T, D] of a layer; None is the body's output."""
        token_ids_T, pad_id = input.token_ids_T, self.config.pad_token_id
        index_SL, is_real_SL = indices_when_padded(token_ids_T == pad_id, input.layout.sequence_starts)
        inputs = {
            "input_ids": token_ids_T[index_SL].masked_fill(~is_real_SL, pad_id),
            "attention_mask": is_real_SL.long(),
        }
        if self._has_token_types:
            inputs["token_type_ids"] = input.layout.segment_ids_T[index_SL].masked_fill(~is_real_SL, 0)
        if layer is None:
            x_SLD = self.body(**inputs)[0]
        else:
            states = self.body(**inputs, output_hidden_states=True).hidden_states
            if not 0 <= layer < len(states):
                raise no_such_layer(layer, len(states) - 1)
            x_SLD = states[layer]
        x_TD = x_SLD.new_zeros(len(token_ids_T), x_SLD.shape[-1])
        return x_TD.index_copy(0, index_SL[is_real_SL], x_SLD[is_real_SL])

    def use_attention(self, backend_name: str) -> None:
        """Check the name and change nothing: attention is computed within the body, in its own way."""
        if backend_name != OWN_ATTENTION:
            backend(backend_name)

    def embed_vectors(self, x_TE: Tensor, position_ids_T: Tensor, segment_ids_T: Tensor) -> NoReturn:
        """Refuse: see the module."""
        _refuse("run in pieces")

    def block_contexts(self, layout: SequenceLayout, indices: range, num_extra: int) -> NoReturn:
        """Refuse: see the module."""
        _refuse("run in pieces")

    def run_blocks(
        self,
        x_TD: Tensor,
        layout: SequenceLayout,
        start: int = 0,
        stop: int | None = None,
        positions_M: Tensor | None = None,
        extra: Iterable[nn.Module] = (),
    ) -> NoReturn:
        """Refuse: see the module."""
        _refuse("run in pieces")

    def final_norm(self, x_TD: Tensor) -> NoReturn:
        """Refuse: see the module."""
        _refuse("run in pieces")


def _name_layers_once(encoder: HuggingFace, tensors: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Leave out the weights of the layers where they stand under the body's name for them."""
    body = f"{prefix}body.{encoder._path_of_layers}."
    for name in [name for name in tensors if name.startswith(body)]:
        del tensors[name]


def _name_layers_twice(encoder: HuggingFace, tensors: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Undo `_name_layers_once`, so that all names are found that there are modules for."""
    blocks, body = f"{prefix}blocks.", f"{prefix}body.{encoder._path_of_layers}."
    layers = {name: tensor for name, tensor in tensors.items() if name.startswith(blocks)}
    tensors |= {body + name.removeprefix(blocks): tensor for name, tensor in layers.items()}


def indices_when_padded(is_pad_T: Tensor, sequence_starts: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each token of a padded batch lies in the packed one.

    Args:
        is_pad_T: bool [T], true where a token is padding.
        sequence_starts: int32 [S + 1], cumulative starts. Empty sequences, and those of padding alone, are left out.

    Returns:
        Indices in T, int64 [S', L], L the longest sequence; and which of them are real, bool [S', L]. The others are 0.
    """
    starts = sequence_starts.long()
    num_real = torch.cat([starts.new_zeros(1), (~is_pad_T).long().cumsum(0)])[starts].diff()
    is_kept = num_real > 0
    starts_S, lengths_S = starts[:-1][is_kept], starts.diff()[is_kept]
    index_L = torch.arange(int(lengths_S.max()) if len(lengths_S) else 0, device=starts.device)
    is_real_SL = index_L < lengths_S[:, None]
    return (starts_S[:, None] + index_L).masked_fill(~is_real_SL, 0), is_real_SL


def _model_type(options: Mapping[str, Any]) -> str:
    """Return the architecture that a recipe names.

    Raises:
        RecipeError: it names none.
    """
    model_type = options.get("model_type")
    if not isinstance(model_type, str):
        raise RecipeError(
            "encoder: the family hugging_face needs to know which architecture",
            "encoder.overrides with a model_type, such as {model_type: roberta, num_hidden_layers: 6}",
        )
    return model_type


def _refuse(wish: str) -> NoReturn:
    raise RecipeError(
        f"the family hugging_face can't {wish}: it runs a model of transformers as a whole",
        "an encoder of a family of ours, such as modernbert or bert",
    )
