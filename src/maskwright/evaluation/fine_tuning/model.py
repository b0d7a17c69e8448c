"""An encoder with a new head, and the losses: sums, never means."""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.encoders.encoder import Encoder, truncated_normal_
from maskwright.evaluation.fine_tuning.questions import AskedBatch

INITIALIZER_RANGE = 0.02
"""Standard deviation of a head's fresh weights, as BERT and RoBERTa."""


class TaskHead(nn.Module, ABC):
    """Turns hidden states into outputs at the asked positions."""

    @abstractmethod
    def forward(self, x_TD: Tensor, batch: AskedBatch) -> Tensor:
        """Return outputs [M, C].

        Args:
            x_TD: float [T, D], the encoder's hidden states.
            batch: says which positions are asked.
        """

    def initialize(self, generator: torch.Generator) -> None:
        """Initialize all weights at random, and biases to 0."""
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.ndim > 1:
                    truncated_normal_(parameter, INITIALIZER_RANGE, generator)
                else:
                    parameter.zero_()


class SequenceHead(TaskHead):
    """One output a sequence: pooled, dropout, dense layer with tanh, dropout, linear layer.

    Source: BERT's pooler (Devlin et al. 2018, arXiv:1810.04805, as released) and `RobertaClassificationHead` of
    transformers, which `tests/parity/test_fine_tuning_parity.py` compares it with. The dense layer is always fresh:
    what a pre-trained pooler knows is the next-sentence task.
    """

    def __init__(self, width: int, num_outputs: int, dropout: float, pooling: Literal["first", "mean"]) -> None:
        """Make the head.

        Args:
            width: of the hidden states, D.
            num_outputs: classes, or 1 for a number.
            dropout: rate before both layers.
            pooling: "first" takes the first token's hidden state, "mean" the mean over the sequence.
        """
        super().__init__()
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(width, width)
        self.out = nn.Linear(width, num_outputs)

    def forward(self, x_TD: Tensor, batch: AskedBatch) -> Tensor:
        x_MD = mean_over_sequences(x_TD, batch) if self.pooling == "mean" else x_TD[batch.positions_M]
        x_MD = torch.tanh(self.dense(self.dropout(x_MD)))
        return self.out(self.dropout(x_MD))


class PositionHead(TaskHead):
    """Dropout and a linear layer at every asked position, as in BERT for tags and for the borders of answers."""

    def __init__(self, width: int, num_outputs: int, dropout: float) -> None:
        """Make the head.

        Args:
            width: of the hidden states, D.
            num_outputs: classes; 2 for the start and the end of an answer.
            dropout: rate before the layer.
        """
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, num_outputs)

    def forward(self, x_TD: Tensor, batch: AskedBatch) -> Tensor:
        return self.out(self.dropout(x_TD[batch.positions_M]))


def mean_over_sequences(x_TD: Tensor, batch: AskedBatch) -> Tensor:
    """Return, for every asked position, the mean hidden state of its sequence, float32 [M, D]."""
    layout = batch.packed.layout
    lengths_S = layout.sequence_starts.diff().clamp(min=1)
    index_T = layout.sequence_index_T.long()
    sums_SD = x_TD.new_zeros((len(lengths_S), x_TD.shape[1]), dtype=torch.float32).index_add(0, index_T, x_TD.float())
    return (sums_SD / lengths_S[:, None])[index_T[batch.positions_M]]


class FineTunedModel(nn.Module):
    """A pre-trained encoder with a new head."""

    def __init__(self, encoder: Encoder, head: TaskHead) -> None:
        """Join the two; neither is copied."""
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, batch: AskedBatch) -> Tensor:
        """Return the outputs at the asked positions, float32 [M, C]."""
        return self.head(self.encoder(batch.packed.input), batch).float()


class TaskLoss(ABC):
    """A sum over what was asked, and the count that it is divided by."""

    @abstractmethod
    def total(self, outputs_MC: Tensor, batch: AskedBatch) -> Tensor:
        """Return the sum over a batch, a scalar."""

    def count(self, batch: AskedBatch) -> int:
        """Return what the sum is divided by: the asked positions."""
        return len(batch.positions_M)


class CrossEntropy(TaskLoss):
    """Of classes: one a sequence, or one a word."""

    def total(self, outputs_MC: Tensor, batch: AskedBatch) -> Tensor:
        """See `TaskLoss`; nats."""
        return F.cross_entropy(outputs_MC, batch.targets, reduction="sum")


class SquaredError(TaskLoss):
    """Of numbers."""

    def total(self, outputs_MC: Tensor, batch: AskedBatch) -> Tensor:
        return F.mse_loss(outputs_MC[:, 0], batch.targets, reduction="sum")


class SpanCrossEntropy(TaskLoss):
    """Of an answer's start and end among the asked positions of its sequence; the mean of the two, as BERT's."""

    def total(self, outputs_MC: Tensor, batch: AskedBatch) -> Tensor:
        """See `TaskLoss`; nats."""
        index_M = batch.sequence_index_M
        slot_M = torch.arange(len(index_M), device=index_M.device)
        first_S = torch.searchsorted(index_M, torch.arange(batch.num_sequences, device=index_M.device))
        longest = int(index_M.bincount().max())
        # [S, longest, 2]: the positions of each sequence side by side; a slot without a position can't be an answer.
        scores_SLC = outputs_MC.new_full((batch.num_sequences, longest, 2), -math.inf)
        scores_SLC = scores_SLC.index_put((index_M, slot_M - first_S[index_M]), outputs_MC)
        return (scores_SLC.logsumexp(dim=1).sum() - outputs_MC.masked_fill(~batch.targets, 0).sum()) / 2

    def count(self, batch: AskedBatch) -> int:
        """Return the number of sequences."""
        return batch.num_sequences
