"""What every encoder is: its interface on the flat packed layout; `config.py` has its options.

A family is one file in `families/` with a class that inherits from `Encoder` (docs/encoders.md shows how).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.core.batches import EncoderInput, SequenceLayout
from maskwright.core.errors import RecipeError
from maskwright.encoders.attention import Attention, backend, choose_backend
from maskwright.encoders.attention.padded import Padded
from maskwright.encoders.config import EncoderConfig


class Block(nn.Module, ABC):
    """One layer: attention, for which every token is needed, and then what each token does for itself.

    Attributes:
        role: tells optimizers that the matrices are a layer's (`optim/roles.py`).
    """

    role: ClassVar[str] = "block"

    @abstractmethod
    def attend(self, x_TD: Tensor, context: Any) -> Tensor:
        """Return what attention brings to each token, float [T, D], before its output projection.

        Args:
            x_TD: float [T, D], hidden states.
            context: what the family's `Encoder.block_contexts` made for this block.
        """

    @abstractmethod
    def finish(self, x_MD: Tensor, attended_MD: Tensor) -> Tensor:
        """Return the block's output from its input and from what attention brought, at some positions [M, D]."""

    def give_back_input(self) -> None:
        """Change the weights so that the output is the input.

        Raises:
            RecipeError: the block can't, such as where a norm follows the sum.
        """
        raise RecipeError(f"encoder: a {type(self).__name__} can't give back its input", "new_blocks: stack or copy")

    def forward(self, x_TD: Tensor, context: Any, positions_M: Tensor | None = None) -> Tensor:
        """Return the block's output, float [T, D], or [M, D] at some positions."""
        attended_TD = self.attend(x_TD, context)
        if positions_M is not None:
            x_TD, attended_TD = x_TD[positions_M], attended_TD[positions_M]
        return self.finish(x_TD, attended_TD)


class Encoder(nn.Module, ABC):
    """Hidden states from packed tokens.

    `forward` is `embed`, `run_blocks`, `final_norm`; objectives may call these one by one, and the blocks in pieces.

    Attributes:
        Config: class of the options.
        SIZES: named sizes: dimensions that a recipe may override one by one.
        citation: where the architecture comes from.
        exporter: name of the file in `export/families/` (or "module:Class") that writes it as a Hugging Face model.
        is_foreign: whether a class of transformers computes it, with attention of its own and uncompiled.
        has_attention_bias: whether attention adds a bias to its scores, which not every backend can.
        config: the options.
        token_embedding: of the families of ours, [V, E].
        blocks: the modules of the layers; see `layers`.
        attention: the backend in use.
    """

    role: ClassVar[str] = "embedding"
    Config: ClassVar[type[EncoderConfig]]
    SIZES: ClassVar[Mapping[str, Mapping[str, int]]]
    citation: ClassVar[str]
    exporter: ClassVar[str | None] = None
    has_attention_bias: ClassVar[bool] = False
    is_foreign: ClassVar[bool] = False
    token_embedding: nn.Embedding
    blocks: nn.ModuleList

    def __init__(self, config: EncoderConfig) -> None:
        """Keep the options. Sub-classes make their modules; `build_encoder` gives them their first weights."""
        super().__init__()
        self.config = config
        self.attention: type[Attention] = Padded

    @abstractmethod
    def initialize(self, generator: torch.Generator) -> None:
        """Initialize all weights, as the family's source describes."""

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The blocks in the order in which they run, `config.num_layers` of them; one may be there several times."""
        return list(self.blocks)

    def embed(self, input: EncoderInput, embedding_VE: Tensor | None = None) -> Tensor:
        """Return what the first block takes, float [T, D]; by another encoder's token embedding, if one is given."""
        weight_VE = self.embedding_weight_VE if embedding_VE is None else embedding_VE
        vectors_TE = F.embedding(input.token_ids_T, weight_VE)
        return self.embed_vectors(vectors_TE, input.layout.position_ids_T, input.layout.segment_ids_T)

    @abstractmethod
    def embed_vectors(self, x_TE: Tensor, position_ids_T: Tensor, segment_ids_T: Tensor) -> Tensor:
        """Return what the first block takes, float [T, D], of the vectors that stand for tokens.

        Args:
            x_TE: float [T, E]; rows of the token embedding, or vectors that are no token's.
            position_ids_T: int64 [T].
            segment_ids_T: int64 [T]; families without token types leave them alone.
        """

    @abstractmethod
    def block_contexts(self, layout: SequenceLayout, indices: range, num_extra: int) -> Sequence[Any]:
        """Return what some blocks take besides hidden states; blocks that take the same share one object.

        Args:
            layout: of the batch.
            indices: which blocks; those from `config.num_layers` on are extra ones.
            num_extra: how many extra blocks there are.
        """

    def run_blocks(
        self,
        x_TD: Tensor,
        layout: SequenceLayout,
        start: int = 0,
        stop: int | None = None,
        positions_M: Tensor | None = None,
        extra: Iterable[nn.Module] = (),
    ) -> Tensor:
        """Run the blocks `start` to `stop` (exclusive; None is after the last).

        Args:
            x_TD: float [T, D], hidden states.
            layout: which tokens belong together, and who sees whom.
            start, stop: which blocks.
            positions_M: int64 [M], where the output of the last of these blocks is wanted; what only other positions
                need is left out. None wants all.
            extra: blocks that follow the encoder's own and are numbered on; `build.more_blocks` makes them.

        Returns:
            float [T, D], or [M, D] at some positions.
        """
        blocks = [*self.layers, *extra]
        indices = range(len(blocks))[start:stop]
        contexts = self.block_contexts(layout, indices, len(blocks) - self.config.num_layers)
        for index, context in zip(indices, contexts, strict=True):
            x_TD = blocks[index](x_TD, context, positions_M if index == indices[-1] else None)
        return x_TD

    @abstractmethod
    def final_norm(self, x_TD: Tensor) -> Tensor:
        """Finish the last block's hidden states, float [T, D]; the identity in families that end with a norm."""

    @property
    def embedding_weight_VE(self) -> Tensor:
        """The token embedding, float [V, E], which the vocabulary head shares."""
        return self.token_embedding.weight

    def forward(self, input: EncoderInput, positions_M: Tensor | None = None) -> Tensor:
        """Return the hidden states of packed tokens.

        Args:
            input: the tokens and their layout.
            positions_M: int64 [M], the positions whose hidden states are wanted; they may repeat. What only other
                positions need is left out (`tests/unit/encoders/test_positions.py` compares). None wants all.

        Returns:
            float [T, D], or [M, D] at some positions.
        """
        return self.final_norm(self.run_blocks(self.embed(input), input.layout, positions_M=positions_M))

    def states_of_layer(self, layer: int, input: EncoderInput) -> Tensor:
        """Return the hidden states after some blocks, float [T, D]; what comes after them is not computed.

        Args:
            layer: as `hidden_states` of transformers counts: 0 is the embedding's output, the number of blocks is the
                output of `forward`.
            input: see `forward`.

        Raises:
            RecipeError: there is no such layer.
        """
        last = self.config.num_layers
        if not 0 <= layer <= last:
            raise no_such_layer(layer, last)
        x_TD = self.run_blocks(self.embed(input), input.layout, stop=layer)
        return self.final_norm(x_TD) if layer == last else x_TD

    @classmethod
    def needs_scores(cls, config: EncoderConfig) -> bool:
        """Return whether attention scores get a bias or dropout, which not every backend can."""
        return cls.has_attention_bias or config.attention_dropout > 0

    def choose_attention(self, device: torch.device, dtype: torch.dtype, row_length: int) -> str:
        """Take the backend that is best for rows of a length, and return its name; see `attention.choose_backend`."""
        name = choose_backend(device, dtype, row_length, self.needs_scores(self.config))
        self.use_attention(name)
        return name

    def use_attention(self, backend_name: str) -> None:
        """Choose the attention backend; `attention.choose_backend` knows which is best where.

        Raises:
            RecipeError: there is none of this name, or it can't do what the options ask for.
        """
        if backend_name == "varlen" and self.config.attention_dropout > 0:
            raise RecipeError(
                f"attention_dropout is {self.config.attention_dropout:g}, which the backend 'varlen' does not have",
                "attention_dropout: 0, or attention: padded",
            )
        if backend_name == "varlen" and self.has_attention_bias:
            raise RecipeError(
                f"attention of {type(self).__name__} has a bias, which the backend 'varlen' does not take",
                "attention: padded, or auto",
            )
        self.attention = backend(backend_name)


def no_such_layer(layer: int, last: int) -> RecipeError:
    """Return the error to raise where a layer is asked for that an encoder does not have."""
    return RecipeError(
        f"layer {layer} of an encoder with {last} layers",
        f"0 (the embedding's output) to {last} (the last), or -1 for the last, -2 for the one before and so on",
    )


def embedding_projection(config: EncoderConfig) -> nn.Module:
    """Return what takes embedded tokens to the hidden size; where that is the embedding's width, they stay as they are.

    Source: Lan et al. 2019, ALBERT, arXiv:1909.11942, section 3.1; ELECTRA has the same.
    """
    if config.embedding_width == config.hidden_size:
        return nn.Identity()
    return nn.Linear(config.embedding_width, config.hidden_size)


class StackedLinear(nn.Linear):
    """Several matrices in one product, such as queries, keys and values; optimizers take them apart.

    Attributes:
        num_matrices: how many.
        num_turns: how often their rows take turns (`optim/roles.py`).
    """

    def __init__(
        self, in_features: int, out_features: int, num_matrices: int, *, bias: bool = True, num_turns: int = 1
    ) -> None:
        """Make one layer with `out_features` in all."""
        super().__init__(in_features, out_features, bias)
        self.num_matrices, self.num_turns = num_matrices, num_turns


def layer_norm(config: EncoderConfig, width: int | None = None) -> nn.LayerNorm:
    """Return a norm over the hidden size, or another width."""
    return nn.LayerNorm(width or config.hidden_size, eps=config.norm_eps, bias=config.norm_bias)


def truncated_normal_(weight: Tensor, standard_deviation: float, generator: torch.Generator) -> None:
    """Fill a weight from a normal distribution cut off at two standard deviations, as BERT and ModernBERT do."""
    limit = 2 * standard_deviation
    nn.init.trunc_normal_(weight, 0.0, standard_deviation, -limit, limit, generator=generator)


def zero_(*layers: nn.Linear) -> None:
    """Let layers add nothing to the residual stream."""
    with torch.no_grad():
        for layer in layers:
            for parameter in layer.parameters():
                parameter.zero_()
