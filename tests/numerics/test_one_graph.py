"""A compiled step with `varlen` attention is one graph, however many sequences a batch has."""

import functools
from dataclasses import replace

import torch
from torch import Tensor

from maskwright.core.batches import CorruptedBatch
from maskwright.core.ranks import Ranks
from maskwright.encoders.attention import varlen
from maskwright.training.model import build_model
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.step import PhaseModel, Stepper
from maskwright.training.step_batches import StepBatches
from maskwright.training.timeline import Course


@torch.library.custom_op("maskwright_tests::attend", mutates_args=())
def stand_in(values_THK: Tensor, starts: Tensor) -> Tensor:
    """Take the place of the kernel, which needs a GPU; opaque to the compiler, as that is."""
    return values_THK.clone()


stand_in.register_fake(lambda values_THK, starts: torch.empty_like(values_THK))
stand_in.register_autograd(lambda ctx, gradient: (gradient, None), setup_context=lambda ctx, inputs, output: None)


def with_empty_sequences(batch: CorruptedBatch, count: int) -> CorruptedBatch:
    layout = batch.input.layout
    starts = torch.cat([layout.sequence_starts, layout.sequence_starts[-1:].repeat(count)])
    return replace(batch, input=replace(batch.input, layout=replace(layout, sequence_starts=starts)))


def test_the_number_of_sequences_does_not_compile_anew(raw_recipe, corpus, monkeypatch):
    monkeypatch.setattr(varlen, "varlen_attn", lambda q, k, v, starts, *_, window_size: stand_in(v, starts) + 0 * q * k)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    recipe = parse_recipe(raw_recipe, "test")
    model = build_model(recipe, corpus.vocabulary)
    model.use_attention("varlen")
    batch = StepBatches(recipe, corpus, Course((8, 4)), Ranks())(0, model.objective)[0]
    joined = PhaseModel(model.encoder, model.objective).train()
    stepper = Stepper(joined, torch.device("cpu"), torch.float32, Ranks(), seed=1, compiled=True)
    torch._dynamo.utils.counters.clear()
    losses = {
        stepper.forward_backward(0, range(1), [with_empty_sequences(batch, count)]).read().loss for count in (0, 8, 3)
    }
    assert len(losses) == 1
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
