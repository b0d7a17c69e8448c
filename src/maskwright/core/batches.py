"""The values that travel from text to loss, and the legend of their shapes.

Shapes: T packed tokens, S sequences, M scored positions, V vocabulary, D hidden size, E embedding size, H heads, K head
size, F feed-forward size, A dictionary atoms, B documents. `x_TD` is a tensor of shape [T, D].

A packed batch is T = rows x row_length tokens laid flat. Sequences lie one after the other in a row and never cross
the end of one; what is left of a row is padding, a sequence of its own that nobody attends to. So every shape is
fixed for `torch.compile`, attention on [rows, row_length] is a reshape and not a copy, and kernels for variable
lengths see one flat run of tokens (docs/decisions/0001-rows.md).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

UNUSED = -100
"""Target of a scored slot that is not in use (`ignore_index` of the cross-entropy)."""

NO_LABEL = -1
"""Label of a sequence that has none."""

WORD, SENTENCE, PARAGRAPH = "word", "sentence", "paragraph"
"""Names of marks: a mark is true at the token with which such a unit of the text begins."""


class Movable:
    """Gives dataclasses of tensors, and of such dataclasses, what is done to every tensor in them."""

    def to(self, device: torch.device | str) -> Self:
        """Return a copy on `device`; from pinned memory to a GPU, transfers overlap with its work."""
        return self.mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self, device: torch.device) -> Self:
        """Return a copy in page-locked memory of the host, for transfers to a GPU."""
        with torch.cuda.device(device):  # a new thread would open the first GPU
            return self.mapped(Tensor.pin_memory)

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return a copy with a function of every tensor."""
        values = {
            field.name: _mapped(getattr(self, field.name), function)
            for field in fields(self)  # pyright: ignore[reportArgumentType]
        }
        return replace(self, **values)  # pyright: ignore[reportArgumentType]


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: _mapped(item, function) for key, item in value.items()}
    return value.mapped(function) if isinstance(value, Movable) else value


@dataclass(frozen=True)
class SequenceLayout(Movable):
    """Which tokens of a packed batch belong together, where each stands, and who sees whom; decided on the host.

    Attributes:
        sequence_starts: int32 [S + 1], cumulative starts (`cu_seqlens`); the last is T. Runs of padding are
            sequences too, and the tail may repeat T (sequences of length 0) to keep S the same from batch to batch.
        sequence_index_T: int32 [T], the sequence of each token, counted from 0.
        position_ids_T: int64 [T], stored, never derived: 0, 1, ... within each sequence of plain text.
        segment_ids_T: int64 [T], BERT's token types.
        row_length: no sequence crosses a multiple of it; T is a multiple of it.
        max_length: longest sequence, at most `row_length`.
        one_sequence_per_row: whether every row is known to be one whole sequence, so that nothing has to be kept from
            seeing something else.
        has_contiguous_positions: whether the positions in each sequence are known to grow by one from token to token,
            so that distances between tokens need not be looked up. False is always right.
        is_visible_T: bool [T], the tokens that are seen; the others see them and are not seen, not even by themselves.
            At least one in every sequence is. None: every token is.
        is_causal_S: bool [S], the sequences in which a token sees only itself and what comes before it. None: all
            sequences have the direction of `is_all_causal`.
        is_all_causal: whether every sequence is known to be causal, which kernels can make use of.
    """

    sequence_starts: Tensor
    sequence_index_T: Tensor
    position_ids_T: Tensor
    segment_ids_T: Tensor
    row_length: int
    max_length: int
    one_sequence_per_row: bool = False
    has_contiguous_positions: bool = False
    is_visible_T: Tensor | None = None
    is_causal_S: Tensor | None = None
    is_all_causal: bool = False

    def __post_init__(self) -> None:
        """Refuse positions that are not what the layout says of them (on the host, where batches are made)."""
        is_checked = self.position_ids_T.device.type == "cpu" and not torch.compiler.is_compiling()
        if not (self.has_contiguous_positions and is_checked):
            return
        index_T = torch.arange(len(self.position_ids_T))
        if not torch.equal(self.position_ids_T, index_T - self.sequence_starts[self.sequence_index_T]):
            raise ValueError(
                "the positions of a batch don't grow by one from token to token, as its layout says they do; "
                "a batch with other positions needs a layout with has_contiguous_positions=False"
            )


@dataclass(frozen=True)
class EncoderInput(Movable):
    """All that an encoder reads.

    Attributes:
        token_ids_T: int64 [T].
        layout: which tokens belong together, where each stands, and who sees whom.
    """

    token_ids_T: Tensor
    layout: SequenceLayout


@dataclass(frozen=True)
class PackedBatch(Movable):
    """Clean tokens, packed.

    Attributes:
        input: the tokens and their layout; padding holds the vocabulary's `pad_id`.
        marks: bool [T] by name, true where such a unit of the text begins. `WORD` is always there; special tokens and
            padding begin a word each.
        document_ids_S: int64 [S], the corpus's document of each sequence; -1 for padding.
        document_starts_S: int64 [S], where in its document each sequence begins, in tokens; 0 for padding.
        num_real_tokens: tokens that are not padding.
        num_text_tokens: tokens that are neither padding nor special.
        labels_S: int64 [S], what the sampler knows of each sequence, such as the order of a pair; `NO_LABEL` where
            there is nothing to know.
        split: which split of the corpus `document_ids_S` counts in: "train" or "held_out".
    """

    input: EncoderInput
    marks: Mapping[str, Tensor]
    document_ids_S: Tensor
    document_starts_S: Tensor
    num_real_tokens: int
    num_text_tokens: int
    labels_S: Tensor
    split: str = "train"

    @property
    def token_ids_T(self) -> Tensor:
        """The clean tokens, int64 [T]."""
        return self.input.token_ids_T

    @property
    def layout(self) -> SequenceLayout:
        """The layout of the clean tokens."""
        return self.input.layout


@dataclass(frozen=True)
class Question(Movable):
    """What one term of a loss asks of a batch, decided on the host.

    Attributes:
        positions_M: int64 [M], the positions in T whose hidden states answer. The slots in use come first; unused ones
            point at 0. Positions may repeat, and a target need not belong to its own position: it may be the next
            token's, or a label that is asked of [CLS].
        targets: int64 or float [M], ids, labels or numbers with `UNUSED` in unused slots; or a value of the term's own.
        count: int64 scalar, how many slots are in use. Decided on the host, so that the training step can divide by the
            count of the whole global batch before the backward pass; a tensor and not an int, so that compiled graphs
            don't depend on its value.
    """

    positions_M: Tensor
    targets: Any
    count: Tensor


def in_slots(values: Tensor, num_slots: int, unused: int) -> Tensor:
    """Return values in the first of a fixed number of slots, [M]; the others hold `unused`. Whole numbers are int64."""
    dtype = values.dtype if values.is_floating_point() else torch.int64
    values_M = torch.full((num_slots,), unused, dtype=dtype)
    values_M[: len(values)] = values
    return values_M


def ask(positions: Tensor, targets: Tensor, num_slots: int) -> Question:
    """Return a question in a fixed number of slots.

    Args:
        positions: int64, at most `num_slots` positions.
        targets: in step with `positions`: ids or labels, int64; or numbers, float.
        num_slots: M, a function of the batch's size and of options alone.
    """
    return Question(
        in_slots(positions, num_slots, 0), in_slots(targets, num_slots, UNUSED), torch.tensor(len(positions))
    )


@dataclass(frozen=True)
class CorruptedBatch(Movable):
    """What an objective made of a packed batch: what the encoder reads, and what it will be asked.

    Attributes:
        input: may differ from the clean input in ids, order, segments, visibility, direction and length.
        questions: by the names of the objective's terms; a term that has nothing to ask of this batch may be missing.
        clean: the batch before corruption (teachers and detectors need it).
        groups: names of the terms that ask at the same positions, a tuple each; one reading answers all of a group.
    """

    input: EncoderInput
    questions: Mapping[str, Question]
    clean: PackedBatch
    groups: tuple[tuple[str, ...], ...]


def groups_of(questions: Mapping[str, Question]) -> tuple[tuple[str, ...], ...]:
    """Return the names of the terms whose questions share one tensor of positions, in the order of the questions."""
    groups: dict[int, tuple[str, ...]] = {}
    for name, question in questions.items():
        groups[id(question.positions_M)] = (*groups.get(id(question.positions_M), ()), name)
    return tuple(groups.values())


def asked_positions(batch: CorruptedBatch) -> Tensor:
    """Return the positions that the terms ask at, int64 [M]: those of one group after the other."""
    positions = [batch.questions[group[0]].positions_M for group in batch.groups]
    return positions[0] if len(positions) == 1 else torch.cat(positions)


@dataclass(frozen=True)
class Reading:
    """What reading a batch gave.

    Attributes:
        states: by term, the hidden states at its question's positions, float [M, D].
        questions: by term; those of the batch, but for targets that only reading could tell, such as which tokens a
            generator has replaced. Positions and counts stay those of the batch.
    """

    states: Mapping[str, Tensor]
    questions: Mapping[str, Question]

    @classmethod
    def of(cls, x_MD: Tensor, batch: CorruptedBatch) -> Self:
        """Deal out hidden states at `asked_positions`, one group after the other."""
        sizes = [len(batch.questions[group[0]].positions_M) for group in batch.groups]
        parts = [x_MD] if len(sizes) == 1 else x_MD.split(sizes)
        states = {name: part for group, part in zip(batch.groups, parts, strict=True) for name in group}
        return cls(states, batch.questions)


class SlotLosses(NamedTuple):
    """The cross-entropy of scored slots.

    Attributes:
        total: scalar, the sum over the slots; the only value with a gradient.
        losses_M: float [M], of each slot.
        is_correct_M: bool [M], whether the slot's first target has the largest logit.
    """

    total: Tensor
    losses_M: Tensor
    is_correct_M: Tensor


@dataclass(frozen=True)
class LossTerm:
    """A sum, not a mean: only the training step divides, by the count over all ranks and micro-batches.

    Attributes:
        name: the term's name in metrics, such as "token".
        total: scalar tensor, the sum over what was scored (nats).
        count: int64 scalar, how many were scored: `Question.count`.
        weight: factor of the term's mean in the loss.
        metrics: further sums over what was scored, by name; they are reported and not trained on.
        slots: how each slot fared, where masking learns from it.
    """

    name: str
    total: Tensor
    count: Tensor
    weight: float = 1.0
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    slots: SlotLosses | None = None
