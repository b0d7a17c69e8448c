"""The losses are those of torch and transformers, as sums."""

import numpy as np
import torch
import torch.nn.functional as F

from maskwright.evaluation.fine_tuning.encoding import TokenSequences
from maskwright.evaluation.fine_tuning.model import CrossEntropy, SpanCrossEntropy, SquaredError
from maskwright.evaluation.fine_tuning.questions import AskedBatch, Questions

SIZES = np.array([4, 6, 3], dtype=np.int64)


def batch_of(num_asked: list[int], targets: np.ndarray) -> AskedBatch:
    """Ask for the first places of each sequence."""
    token_ids = np.arange(SIZES.sum()) + 10
    asked = np.concatenate([np.arange(count) for count in num_asked])
    questions = Questions(
        TokenSequences(token_ids, np.zeros_like(token_ids), SIZES), asked, np.array(num_asked), targets
    )
    return questions.batch(np.arange(len(SIZES)), 0, 64)


def test_cross_entropy_and_squared_error():
    outputs = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    classes = batch_of([1, 1, 1], np.array([0, 3, 2]))
    total = CrossEntropy().total(outputs, classes) / CrossEntropy().count(classes)
    torch.testing.assert_close(total, F.cross_entropy(outputs, torch.tensor([0, 3, 2])))
    numbers = batch_of([1, 1, 1], np.array([0.5, 3, 2], dtype=np.float32))
    total = SquaredError().total(outputs[:, :1], numbers) / SquaredError().count(numbers)
    torch.testing.assert_close(total, F.mse_loss(outputs[:, 0], torch.tensor([0.5, 3, 2])))


def test_span_cross_entropy_is_the_mean_of_start_and_end_over_padded_sequences():
    num_asked = [4, 5, 2]
    starts, ends = [1, 0, 1], [3, 0, 1]
    targets = np.zeros((11, 2), dtype=bool)
    first = np.cumsum([0, *num_asked[:-1]])
    targets[first + starts, 0] = targets[first + ends, 1] = True
    outputs = torch.randn(11, 2, generator=torch.Generator().manual_seed(1))
    padded = torch.full((3, 5, 2), -1e9)
    for row, (begin, count) in enumerate(zip(first, num_asked, strict=True)):
        padded[row, :count] = outputs[begin : begin + count]
    expected = F.cross_entropy(padded[..., 0], torch.tensor(starts)) + F.cross_entropy(
        padded[..., 1], torch.tensor(ends)
    )
    batch = batch_of(num_asked, targets)
    loss = SpanCrossEntropy()
    torch.testing.assert_close(loss.total(outputs, batch) / loss.count(batch), expected / 2)
