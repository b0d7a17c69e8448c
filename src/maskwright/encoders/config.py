"""Options that every encoder has, and what follows from them: shapes, sizes of parts, windows of attention."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from maskwright.core.options import Options


class EncoderConfig(Options):
    """Options that all families have; a family's `Config` adds its own.

    Attributes:
        not_overridden: fields that a recipe's `encoder.overrides` leave alone: they follow from the tokenizer and the
            phases.
    """

    not_overridden: ClassVar[frozenset[str]] = frozenset(
        {"vocabulary_size", "pad_token_id", "cls_token_id", "sep_token_id", "max_positions"}
    )

    vocabulary_size: int = Field(gt=0, description="number of token ids, V")
    hidden_size: int = Field(gt=0, description="width of the hidden states, D")
    embedding_size: int | None = Field(
        default=None, gt=0, description="width of the token embedding, E; default: the hidden size, and no projection"
    )
    num_layers: int = Field(gt=0, description="number of blocks")
    num_heads: int = Field(gt=0, description="attention heads, H; they divide the hidden size")
    feed_forward_size: int = Field(gt=0, description="inner width of the feed-forward part, F")
    max_positions: int = Field(gt=0, description="longest sequence")
    pad_token_id: int = Field(ge=0, description="id of padding")
    cls_token_id: int | None = Field(default=None, ge=0, description="id that begins a sequence")
    sep_token_id: int | None = Field(default=None, ge=0, description="id that ends a sequence")
    initializer_range: float = Field(
        default=0.02, gt=0, description="standard deviation of fresh weights; 0.02 as BERT"
    )
    norm_eps: float = Field(default=1e-5, gt=0, description="added to the variance in layer norms")
    norm_bias: bool = Field(default=True, description="whether layer norms have a bias")
    head_bias: bool = Field(default=True, description="whether the vocabulary head's dense layer has a bias")
    decoder_bias: bool = Field(default=True, description="whether the vocabulary head's logits have a bias")
    attention_dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout of attention weights")

    @model_validator(mode="after")
    def _heads_divide_the_hidden_size(self) -> Self:
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(f"hidden_size {self.hidden_size} is not an even multiple of num_heads {self.num_heads}")
        return self

    @classmethod
    def option_names(cls, overrides: Mapping[str, Any]) -> Collection[str]:
        """Return the names that a recipe's overrides may have.

        Args:
            overrides: of the recipe; in some families what further options there are depends on them.
        """
        return cls.model_fields

    @classmethod
    def of_options(cls, options: Mapping[str, Any]) -> Self:
        """Return a configuration by the options' names in a recipe.

        Raises:
            pydantic.ValidationError, RecipeError: they are out of range.
        """
        return cls.model_validate(options)

    def overrides(self) -> dict[str, Any]:
        """Return what a recipe overrides to ask for this configuration again, whatever the size of its tokenizer."""
        decided = self.not_overridden - {"vocabulary_size"}
        return {name: value for name, value in self.model_dump().items() if name not in decided}

    @property
    def head_size(self) -> int:
        """Width of one attention head, K."""
        return self.hidden_size // self.num_heads

    @property
    def embedding_width(self) -> int:
        """Width of the token embedding and of what is decoded by it, E."""
        return self.embedding_size or self.hidden_size

    @property
    def head_initializer_range(self) -> float:
        """Standard deviation of the vocabulary head's fresh dense layer."""
        return self.initializer_range

    def block_matrix_parameters(self) -> int:
        """Return the number of weights in the matrices of one block: what every token is multiplied with."""
        raise NotImplementedError

    def head_matrix_parameters(self) -> int:
        """Return the number of weights in the vocabulary head's matrices, the decoder's included."""
        return (self.vocabulary_size + self.hidden_size) * self.embedding_width

    def embedding_matrix_parameters(self) -> int:
        """Return the number of weights that every token's embedding is multiplied with; 0 without a projection."""
        return 0 if self.embedding_width == self.hidden_size else self.embedding_width * self.hidden_size

    def deeper(self, num_blocks: int) -> Self:
        """Return the options of an encoder with so many blocks more."""
        return self.model_copy(update={"num_layers": self.num_layers + num_blocks})

    def scaled(self, width: float, depth: float) -> Self:
        """Return the options of an encoder of another size with the same token embedding.

        Args:
            width: of hidden states and feed-forward layers, relative to these; heads stay as wide as they are.
            depth: number of blocks, relative to these.
        """
        num_heads = max(1, round(width * self.num_heads))
        sizes = {
            "num_heads": num_heads,
            "hidden_size": num_heads * self.head_size,
            "feed_forward_size": max(1, round(self.feed_forward_size * num_heads / self.num_heads)),
            "num_layers": max(1, round(depth * self.num_layers)),
            "embedding_size": self.embedding_width,
        }
        return type(self).model_validate(self.model_dump() | sizes)

    def query_key_value_parameters(self) -> int:
        """Return how many of the block's weights come before attention, which needs all tokens whatever is wanted."""
        return 3 * self.hidden_size**2

    def attention_products(self) -> int:
        """Return how often attention multiplies a vector of one token with each that it sees: by keys and by values."""
        return 2

    def attention_windows(self, num_extra: int = 0) -> list[int | None]:
        """Return the total window of each layer's attention, of extra layers too; None is the whole sequence."""
        return [None] * (self.num_layers + num_extra)
