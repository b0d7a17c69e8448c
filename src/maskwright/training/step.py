"""One optimizer step: micro-batches forward and backward, every term divided by its own global count, one update."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from maskwright.core.batches import CorruptedBatch, LossTerm
from maskwright.core.randomness import derived_seed
from maskwright.core.ranks import Ranks
from maskwright.encoders.encoder import Encoder
from maskwright.objectives.base import Objective


class PhaseModel(nn.Module):
    """What is compiled and what DDP wraps: an objective with the encoder it asks."""

    def __init__(self, encoder: Encoder, objective: Objective) -> None:
        """Join the two; neither is copied."""
        super().__init__()
        self.encoder, self.objective = encoder, objective

    def forward(self, batch: CorruptedBatch) -> tuple[LossTerm, ...]:
        """Return the objective's terms, as sums over this micro-batch."""
        return self.objective.loss(self.encoder, batch)


@dataclass(frozen=True)
class StepLoss:
    """The loss of one step over all ranks and micro-batches.

    Attributes:
        loss: the weighted sum of the terms' means.
        means: each term's mean by name.
    """

    loss: float
    means: dict[str, float]


@dataclass(frozen=True)
class StepSums:
    """What one step summed, still on the device: the work goes on while nobody reads it.

    Attributes:
        totals_N: [N], this rank's total of each metric, in float64 where the device has that.
        counts: by metric, what its total is divided by; over all ranks and micro-batches.
        weights: by metric, its factor in the loss; metrics without one are only reported.
        ranks: all processes of the run.
    """

    totals_N: Tensor
    counts: Mapping[str, float]
    weights: Mapping[str, float]
    ranks: Ranks

    def read(self) -> StepLoss:
        """Wait for the device and return the loss; once, and all ranks call together."""
        self.ranks.sum_(self.totals_N)
        totals = zip(self.counts.items(), self.totals_N.tolist(), strict=True)
        means = {name: total / max(1.0, count) for (name, count), total in totals}
        return StepLoss(sum(self.weights.get(name, 0.0) * mean for name, mean in means.items()), means)


class Stepper:
    """Runs forward and backward passes of one phase."""

    def __init__(
        self, model: PhaseModel, device: torch.device, dtype: torch.dtype, ranks: Ranks, seed: int, compiled: bool
    ) -> None:
        """Prepare a phase.

        Args:
            model: encoder and objective, on `device`.
            device: where to compute.
            dtype: of matrix products; float32 turns autocast off.
            ranks: all processes of the run.
            seed: of dropout.
            compiled: whether to compile; one graph or an error.
        """
        self._device, self._dtype, self._ranks, self._seed = device, dtype, ranks, seed
        self._model, self._compiled = model, compiled
        self._ddp = None
        runnable: nn.Module = model
        if ranks.num_ranks > 1:
            self._ddp = runnable = DistributedDataParallel(
                model, gradient_as_bucket_view=True, find_unused_parameters=not model.objective.uses_every_parameter
            )
        if compiled:
            # Graphs of an earlier phase would make torch.compile take this phase's sizes for ones that vary.
            torch._dynamo.reset()
        self._run = torch.compile(runnable, fullgraph=self._ddp is None) if compiled else runnable

    def forward_backward(self, step: int, numbers: Sequence[int], batches: Sequence[CorruptedBatch]) -> StepSums:
        """Add the gradients of one step to the parameters' `.grad`, with the same sums in the same order every time.

        Nothing is read from the device, so that it never waits for the host (tests/numerics/test_host_reads.py).

        Each term's total is divided by its count over all ranks and micro-batches, so the gradient does not depend on
        how the global batch is cut up (tests/numerics/test_micro_batches.py).

        Args:
            step: number of the step, for dropout.
            numbers: this rank's micro-batches' numbers in the global batch.
            batches: those micro-batches, on the host.
        """
        with _reproducible(self._device):
            return self._forward_backward(step, numbers, batches)

    def _forward_backward(self, step: int, numbers: Sequence[int], batches: Sequence[CorruptedBatch]) -> StepSums:
        metric_terms = self._model.objective.metric_terms
        counts = self._counts(batches, sorted(set(metric_terms.values())))
        # MPS has no float64.
        wide = torch.float32 if self._device.type == "mps" else torch.float64
        totals: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=wide, device=self._device))
        weights: dict[str, float] = {}
        for index, (number, batch) in enumerate(zip(numbers, batches, strict=True)):
            torch.manual_seed(derived_seed(self._seed, "dropout", step, number))
            is_last = index == len(batches) - 1
            with contextlib.nullcontext() if is_last or self._ddp is None else self._ddp.no_sync():
                with torch.no_grad():
                    completed = self._model.objective.complete(self._model.encoder, batch.to(self._device))
                if self._compiled and self._model.encoder.attention.reads_starts:
                    # One graph for any number of sequences (tests/numerics/test_one_graph.py).
                    torch._dynamo.maybe_mark_dynamic(completed.input.layout.sequence_starts, 0)
                with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
                    terms = self._run(completed)
                means = [term.weight * term.total / max(1.0, counts[term.name]) for term in terms]
                # DDP averages over the ranks, and the counts are those of all ranks: undo the average.
                (torch.stack(means).sum() * self._ranks.num_ranks).backward()
            for term in terms:
                weights[term.name] = term.weight
                for name, total in {term.name: term.total, **term.metrics}.items():
                    totals[name] = totals[name] + total.detach().to(wide)
        counts_of_metrics = {name: counts[metric_terms[name]] for name in sorted(metric_terms)}
        return StepSums(
            torch.stack([totals[name] for name in counts_of_metrics]), counts_of_metrics, weights, self._ranks
        )

    def _counts(self, batches: Sequence[CorruptedBatch], names: Sequence[str]) -> dict[str, float]:
        """Return how many slots of each term are in use over all ranks and micro-batches; 0 if none asks."""
        local = [
            float(sum(int(batch.questions[name].count) for batch in batches if name in batch.questions))
            for name in names
        ]
        return dict(zip(names, self._ranks.sum(local, self._device), strict=True))


@contextlib.contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """On the CPU, sum gradients of embeddings in a fixed order; compiled code would use atomic additions.

    Costs nothing measurable (0.31 s a step against 0.33 s, tiny encoder, 2 cores of an AMD EPYC, 2026-11-21).
    """
    settings: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        settings.fill_uninitialized_memory = before[1]
