"""A step never makes the device wait for the host: nothing that is computed there is read before the step is made."""

import contextlib
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from maskwright.core.batches import CorruptedBatch
from maskwright.core.ranks import Ranks
from maskwright.optim.optimizers import Optimizers
from maskwright.training.model import build_model
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.step import PhaseModel, Stepper
from maskwright.training.step_batches import StepBatches, ready_for
from maskwright.training.timeline import Course

ops = torch.ops.aten
READS = {ops._local_scalar_dense.default, ops.nonzero.default, ops.masked_select.default}
"""What has to know numbers of the device before it can return."""

INDEXING = {ops.index.Tensor, ops.index_put.default, ops.index_put_.default}
"""Which does too, where the index is a mask."""


class HostReads(TorchDispatchMode):
    """Counts what waits for numbers, those of some tensors left out."""

    def __init__(self, on_host: set[int]) -> None:
        """Leave out tensors of the host, by their addresses; on a CPU nothing else tells them apart."""
        super().__init__()
        self.reads, self._on_host = Counter(), on_host

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        is_indexed_by_truth = function in INDEXING and any(
            each is not None and each.dtype == torch.bool for each in args[1]
        )
        if (function in READS or is_indexed_by_truth) and args[0].data_ptr() not in self._on_host:
            self.reads[str(function)] += 1
        return function(*args, **kwargs or {})


@pytest.fixture
def copied(monkeypatch) -> list[int]:
    """Return a list that grows by the address of each tensor read as a whole: on a CPU that is no operation."""
    read = []
    for name in ("tolist", "cpu"):
        copy = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, copy=copy: read.append(self.data_ptr()) or copy(self))
    return read


def step_of(raw_recipe, corpus, device: torch.device):
    """Return stepper, optimizers and the micro-batches of the first step."""
    recipe = parse_recipe(raw_recipe, "test")
    model = build_model(recipe, corpus.vocabulary)
    model.root().to(device)
    batches = StepBatches(recipe, corpus, Course((8, 4)), Ranks())(0, model.objective)
    joined = PhaseModel(model.encoder, model.objective).train()
    stepper = Stepper(joined, device, torch.bfloat16, Ranks(), seed=1, compiled=False)
    return stepper, Optimizers(model.root(), recipe.optimizer), batches


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_reads_nothing_from_the_device_until_its_loss_is_wanted(
    raw_recipe, corpus, monkeypatch, copied, optimizer
):
    raw_recipe["optimizer"]["name"] = optimizer
    stepper, optimizers, batches = step_of(raw_recipe, corpus, torch.device("cpu"))
    on_host = {question.count.data_ptr() for batch in batches for question in batch.questions.values()}
    monkeypatch.setattr(CorruptedBatch, "to", lambda self, device: self.mapped(torch.clone))
    with HostReads(on_host) as mode:
        sums = stepper.forward_backward(0, range(2), batches)
        norm = optimizers.clip()
        optimizers.step(1e-3)
        assert not mode.reads and not set(copied) - on_host
        norms = norm[None]
        float(norm), norms[norms > 0]
    assert mode.reads == {"aten._local_scalar_dense.default": 1, "aten.index.Tensor": 1}, "reads are counted"
    copied.clear()
    assert sums.read().loss > 0 and len(copied) == 1


def test_batches_for_a_gpu_are_pinned_and_others_left_alone(raw_recipe, corpus, monkeypatch):
    *_, made = step_of(raw_recipe, corpus, torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self.clone())
    (first, _) = ready_for(torch.device("cuda"), lambda step: made)(0)
    for tensor in (made[0].input.token_ids_T, made[0].questions["token"].targets, made[0].clean.marks["word"]):
        assert any(tensor is each for each in pinned)
    assert first.questions["token"].targets is not made[0].questions["token"].targets
    assert ready_for(torch.device("cpu"), lambda step: made)(0) is made


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_on_a_gpu_never_waits_for_it(raw_recipe, corpus, optimizer):
    raw_recipe["optimizer"]["name"] = optimizer
    stepper, optimizers, batches = step_of(raw_recipe, corpus, torch.device("cuda"))
    batches = ready_for(torch.device("cuda"), lambda step: batches)(0)
    assert batches[0].input.layout.sequence_starts.is_pinned()
    for step in range(2):  # the first makes libraries and the optimizers' state
        torch.cuda.set_sync_debug_mode("error" if step else "default")
        try:
            sums = stepper.forward_backward(step, range(2), batches)
            optimizers.clip()
            optimizers.step(1e-3)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert sums.read().loss > 0
