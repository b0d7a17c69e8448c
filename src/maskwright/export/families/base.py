"""The contract of an exporter: the two-way dictionary between a family of ours and a class of transformers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from maskwright.core.errors import ExportError
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import Encoder

TensorNames = dict[str, tuple[str, ...]]
"""Our tensor -> theirs; more than one of theirs are ours cut into equal parts along the first dimension."""

Reads = Literal["tokens", "sequences"]
"""What a head gives an output for: every token, or every sequence, by the state of its first token, [CLS]."""


@dataclass(frozen=True)
class HeadNames:
    """What a kind of head is called in transformers.

    Attributes:
        architecture: the class that has the head above the family's body.
        auto_class: the class of transformers that finds it by the folder's configuration.
        tensors: the names of the head's tensors, but for those that are tied.
        reads: what the head gives an output for.
    """

    architecture: str
    auto_class: str
    tensors: TensorNames
    reads: Reads = "tokens"


class Exporter(ABC):
    """How a family is called in transformers. It has no state; it is used in both directions.

    Attributes:
        encoder_class: the family.
        model_type: transformers' name of the architecture, in `config.json`.
        heads: by kind of head (`Outcome.heads` of the objectives), what it is called.
        body_prefix: what the names of the body's tensors begin with in the classes that have a head.
        options: our option -> their key, where the value is the same.
        required: their keys with the one value that our family means by them.
        keys_of_other_readers: keys for older transformers and for other programs, which the newest class does not
            declare.
        unused_tensors: beginnings of the names of tensors that an import may leave behind.
        has_embedding_size: whether the token embedding may have a width of its own.
    """

    encoder_class: ClassVar[type[Encoder]]
    model_type: ClassVar[str]
    heads: ClassVar[Mapping[str, HeadNames]]
    body_prefix: ClassVar[str]
    options: ClassVar[Mapping[str, str]]
    required: ClassVar[Mapping[str, Any]]
    keys_of_other_readers: ClassVar[frozenset[str]] = frozenset({"model_type", "torch_dtype"})
    unused_tensors: ClassVar[tuple[str, ...]] = ()
    has_embedding_size: ClassVar[bool] = False

    @abstractmethod
    def encoder_tensors(self, config: EncoderConfig) -> TensorNames:
        """Return the names of the encoder's tensors."""

    @abstractmethod
    def tied_tensors(self) -> Mapping[str, str]:
        """Return their tensors that are copies: copy -> original. They are not written, and checked when read."""

    @abstractmethod
    def further_keys(self, config: Any) -> dict[str, Any]:
        """Return the keys of `config.json` that are more than another name for an option.

        Raises:
            ExportError: the options ask for what the architecture does not have.
        """

    @abstractmethod
    def further_options(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return our options that are more than another name for a key.

        Args:
            values: of transformers' configuration, defaults filled in.

        Raises:
            ExportError: the configuration asks for what our family does not have.
        """

    def canonical_name(self, name: str) -> str:
        """Return today's name of a tensor in an older file."""
        return name

    def config_values(self, config: EncoderConfig, kinds: Sequence[str]) -> dict[str, Any]:
        """Return the content of `config.json`.

        Args:
            config: of the encoder.
            kinds: of the heads that the folder has; they are among `heads`.

        Raises:
            ExportError: the options ask for what the architecture does not have.
        """
        if config.embedding_matrix_parameters() and not self.has_embedding_size:
            raise ExportError(
                f"embedding_size is {config.embedding_size}, which no class of transformers with the model type "
                f"{self.model_type} has",
                "the hidden size, or a family that has it, such as electra or albert",
            )
        architectures = [self.heads[kind].architecture for kind in kinds]
        values: dict[str, Any] = {"architectures": architectures, "model_type": self.model_type}
        values |= {theirs: getattr(config, ours) for ours, theirs in self.options.items()}
        if self.has_embedding_size:
            values["embedding_size"] = config.embedding_width
        values |= dict(self.required) | self.further_keys(config)
        return values | {"dtype": "float32", "torch_dtype": "float32"}

    def encoder_options(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return our options for a configuration of transformers.

        Raises:
            ExportError: the configuration asks for what our family does not have; names key and value.
        """
        for key, value in self.required.items():
            if values.get(key, value) != value:
                raise ExportError(f"config.json: {key} is {values[key]!r}", f"{value!r}; this family has nothing else")
        options = {ours: values[theirs] for ours, theirs in self.options.items()}
        if self.has_embedding_size and values["embedding_size"] != options["hidden_size"]:
            options["embedding_size"] = values["embedding_size"]
        return options | self.further_options(values)


def weights_and_biases(parts: TensorNames) -> TensorNames:
    """Return the names of the tensors of modules that have a weight and a bias each."""
    kinds = ("weight", "bias")
    return {
        f"{ours}.{kind}": tuple(f"{name}.{kind}" for name in theirs) for ours, theirs in parts.items() for kind in kinds
    }


BERT_TRANSFORM = "cls.predictions.transform"
"""Begins the names of the vocabulary head's dense layer and norm in BERT's code, which DeBERTa took over."""


def vocabulary_head(architecture: str, dense: str, norm: str, bias: str) -> HeadNames:
    """Return the names of a vocabulary head: of the two parts of its transform, and of its decoder's bias."""
    transform = weights_and_biases({"transform.dense": (dense,), "transform.norm": (norm,)})
    return HeadNames(architecture, "AutoModelForMaskedLM", {**transform, "decoder.bias": (bias,)})


def bert_vocabulary_head(architecture: str) -> HeadNames:
    """Return the names of a vocabulary head in BERT's code, in a class that has it."""
    return vocabulary_head(
        architecture, f"{BERT_TRANSFORM}.dense", f"{BERT_TRANSFORM}.LayerNorm", "cls.predictions.bias"
    )
