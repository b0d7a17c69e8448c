"""Packing changes nothing: loss and gradients are those of the examples one by one, and of any cut into passes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from maskwright.encoders import build_encoder
from maskwright.evaluation.fine_tuning.encoding import TokenSequences
from maskwright.evaluation.fine_tuning.loop import ComputeSettings, accumulate, outputs
from maskwright.evaluation.fine_tuning.model import (
    CrossEntropy,
    FineTunedModel,
    PositionHead,
    SequenceHead,
    SpanCrossEntropy,
    SquaredError,
    TaskHead,
    TaskLoss,
)
from maskwright.evaluation.fine_tuning.questions import Questions, cut_into_passes

NUM = 9
MACHINE = ComputeSettings(torch.device("cpu"), torch.float32, pad_id=0, longest_row=64, tokens_per_pass=4096)


def questions_with(kind: str) -> Questions:
    generator = np.random.default_rng(3)
    sizes = generator.integers(4, 50, NUM)
    sequences = TokenSequences(generator.integers(5, 100, sizes.sum()), generator.integers(0, 2, sizes.sum()), sizes)
    if kind in ("first", "mean"):
        return Questions.ask_first_tokens(sequences, generator.integers(0, 3, NUM))
    if kind == "number":
        return Questions.ask_first_tokens(sequences, generator.normal(size=NUM).astype(np.float32))
    num_asked = generator.integers(2, 5, NUM)
    asked = np.concatenate([np.sort(generator.permutation(4)[:count]) for count in num_asked])
    if kind == "words":
        return Questions(sequences, asked, num_asked, generator.integers(0, 3, num_asked.sum()))
    first = np.cumsum(num_asked) - num_asked
    borders = np.zeros((num_asked.sum(), 2), dtype=bool)
    borders[first + generator.integers(0, num_asked), 0] = borders[first + generator.integers(0, num_asked), 1] = True
    return Questions(sequences, asked, num_asked, borders)


HEADS: dict[str, tuple[TaskHead, TaskLoss]] = {
    "first": (SequenceHead(32, 3, 0.0, "first"), CrossEntropy()),
    "mean": (SequenceHead(32, 3, 0.0, "mean"), CrossEntropy()),
    "number": (SequenceHead(32, 1, 0.0, "first"), SquaredError()),
    "words": (PositionHead(32, 3, 0.0), CrossEntropy()),
    "span": (PositionHead(32, 2, 0.0), SpanCrossEntropy()),
}


def loss_and_gradients(model: FineTunedModel, loss: TaskLoss, batches: list) -> tuple[Tensor, list[Tensor]]:
    model.zero_grad()
    mean = accumulate(model, batches, loss, MACHINE, dropout_seed=0)
    return mean, [torch.zeros_like(one) if one.grad is None else one.grad.clone() for one in model.parameters()]


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_packed_is_one_by_one(vocabulary, family, kind):
    tiny = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 48}
    head, loss = HEADS[kind]
    head.initialize(torch.Generator().manual_seed(1))
    model = FineTunedModel(build_encoder(family, None, tiny, vocabulary, max_positions=64, seed=5), head).eval()
    questions = questions_with(kind)
    everything = np.arange(NUM)
    packed = loss_and_gradients(model, loss, [MACHINE.batch(questions, everything)])
    cuts = {
        "one by one": [np.array([index]) for index in everything],
        "in passes": list(cut_into_passes(questions.sequences.sizes, everything, 60)),
    }
    assert len(cuts["in passes"]) > 2
    for name, parts in cuts.items():
        other = loss_and_gradients(model, loss, [MACHINE.batch(questions, part) for part in parts])
        torch.testing.assert_close(other[0], packed[0], msg=name)
        for ours, theirs in zip(other[1], packed[1], strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["mean", "words"])
def test_outputs_come_in_the_order_of_the_questions(vocabulary, kind):
    tiny = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 48}
    model = FineTunedModel(build_encoder("bert", None, tiny, vocabulary, max_positions=64, seed=5), HEADS[kind][0])
    questions = questions_with(kind)
    together = outputs(model, questions, replace(MACHINE, tokens_per_pass=100))
    with torch.no_grad():
        alone = [model.eval()(MACHINE.batch(questions, np.array([index]))).numpy() for index in range(NUM)]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)
