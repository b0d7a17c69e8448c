"""The fine-tuning loop: prefetched packed batches, AdamW, and an evaluation from time to time."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from maskwright.batching.loader import Loader
from maskwright.core.errors import EvaluationError
from maskwright.core.hardware import explain_allocation_errors
from maskwright.core.log import progress
from maskwright.core.randomness import derived_seed
from maskwright.evaluation.fine_tuning.adaptation import parameter_groups
from maskwright.evaluation.fine_tuning.model import FineTunedModel, TaskLoss
from maskwright.evaluation.fine_tuning.questions import AskedBatch, Questions, SequenceOrder, cut_into_passes
from maskwright.evaluation.fine_tuning.settings import FineTuning
from maskwright.evaluation.fine_tuning.watch import BestStepWatch
from maskwright.evaluation.scorer import evaluation_mode

CHECK_EVERY = 20
"""Steps between two looks at the loss: on a GPU each makes the host wait."""


@dataclass(frozen=True)
class ComputeSettings:
    """The device, precision and batch limits of the computation.

    Attributes:
        device: of the weights.
        dtype: of matrix products; float32 turns autocast off.
        pad_id: fills the end of rows.
        longest_row: the model's limit in tokens.
        tokens_per_pass: what one forward pass may hold.
    """

    device: torch.device
    dtype: torch.dtype
    pad_id: int
    longest_row: int
    tokens_per_pass: int

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def batch(self, questions: Questions, chosen: np.ndarray) -> AskedBatch:
        """Pack some sequences, on the host."""
        return questions.batch(chosen, self.pad_id, self.longest_row)


@dataclass(frozen=True)
class TrainingSummary:
    """What training did.

    Attributes:
        num_steps: optimizer steps, fewer than planned where it stopped early.
        num_examples: sequences seen, repetitions counted.
        seconds: in steps; looking at the score left out.
        losses: mean loss of about every `CHECK_EVERY` steps.
    """

    num_steps: int
    num_examples: int
    seconds: float
    losses: tuple[float, ...]

    @property
    def examples_per_second(self) -> float:
        """Sequences per second of training."""
        return self.num_examples / max(self.seconds, 1e-9)


def schedule_factor(step: int, num_steps: int, settings: FineTuning) -> float:
    """Return the factor of the learning rate in a step counted from 0, as transformers' schedules with warm-up.

    `tests/unit/evaluation/fine_tuning/test_loop.py` compares it with theirs.
    """
    num_warmup = math.ceil(settings.warmup_fraction * num_steps)
    if step < num_warmup:
        return step / num_warmup
    return 1.0 if settings.schedule == "constant" else (num_steps - step) / max(1, num_steps - num_warmup)


def train(
    model: FineTunedModel,
    questions: Questions,
    loss: TaskLoss,
    settings: FineTuning,
    machine: ComputeSettings,
    seed: int,
    watch: BestStepWatch,
) -> TrainingSummary:
    """Fine-tune a model in place.

    Args:
        model: encoder and head; which weights learn is decided.
        questions: the training data.
        loss: what is minimised.
        settings: the protocol.
        machine: where to compute.
        seed: of order and dropout.
        watch: may stop it early.

    Raises:
        EvaluationError: the loss is not finite.
        MemoryShortage: a pass does not fit into memory.
    """
    order = SequenceOrder(len(questions), settings.batch_size, seed)
    num_steps = settings.epochs * order.steps_per_epoch
    optimizer = torch.optim.AdamW(parameter_groups(model, settings), betas=(0.9, 0.999), eps=1e-8, fused=True)
    peaks = [group["lr"] for group in optimizer.param_groups]
    learning = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def batches_of(step: int) -> list[AskedBatch]:
        parts = cut_into_passes(questions.sequences.sizes, order.step(step), machine.tokens_per_pass)
        return [machine.batch(questions, chosen) for chosen in parts]

    loader, tally = Loader(batches_of, 0, num_steps), TrainingTally(num_steps)
    model.train()
    try:
        with explain_memory_errors(settings), progress("Fine-tuning", num_steps * settings.batch_size) as advance:
            for step in range(num_steps):
                batches = loader.take()
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    group["lr"] = peak * schedule_factor(step, num_steps, settings)
                tally.add(accumulate(model, batches, loss, machine, derived_seed(seed, "fine_tuning_dropout", step)))
                if settings.clip_norm:
                    nn.utils.clip_grad_norm_(learning, settings.clip_norm)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                num_examples = sum(batch.num_sequences for batch in batches)
                tally.step_done(num_examples)
                advance(num_examples)
                with tally.pause_clock():
                    if watch.wants_to_stop(step + 1, (step + 1) % order.steps_per_epoch == 0):
                        break
    finally:
        loader.close()
    return tally.summarize()


def accumulate(
    model: FineTunedModel, batches: Sequence[AskedBatch], loss: TaskLoss, machine: ComputeSettings, dropout_seed: int
) -> torch.Tensor:
    """Add the gradients of one step; return its mean loss, a scalar on the device.

    The gradient is the same however the examples are packed and cut into passes
    (`tests/numerics/test_fine_tuning_gradients.py`).
    """
    count = sum(loss.count(batch) for batch in batches)
    torch.manual_seed(dropout_seed)
    totals: list[torch.Tensor] = []
    for batch in batches:
        with machine.autocast():
            outputs_MC = model(on_device := batch.to(machine.device))
        mean = loss.total(outputs_MC, on_device) / count
        mean.backward()
        totals.append(mean.detach())
    return torch.stack(totals).sum()


class TrainingTally:
    """Counts steps, examples, seconds and losses, and raises if a loss is not finite."""

    def __init__(self, num_steps: int) -> None:
        """Start the clock of a training run with `num_steps` steps."""
        self._planned = num_steps
        self._steps = self._examples = self._unchecked = 0
        self._loss: torch.Tensor | float = 0.0
        self._losses: list[float] = []
        self._paused_seconds = 0.0
        self._begin = time.perf_counter()

    def add(self, loss: torch.Tensor) -> None:
        """Add a step's mean loss."""
        self._loss = self._loss + loss
        self._unchecked += 1
        if self._unchecked == CHECK_EVERY or self._steps + 1 == self._planned:
            self._check()

    def _check(self) -> None:
        mean = float(self._loss) / self._unchecked
        if not math.isfinite(mean):
            raise EvaluationError(
                f"step {self._steps + 1} of {self._planned}: the loss of fine-tuning is not finite",
                "finite numbers",
                "lower training.learning_rate, or set training.precision=float32",
            )
        self._losses.append(mean)
        self._loss, self._unchecked = 0.0, 0

    def step_done(self, num_examples: int) -> None:
        """Count a step."""
        self._steps += 1
        self._examples += num_examples

    @contextmanager
    def pause_clock(self) -> Iterator[None]:
        """Stop the clock inside the block."""
        begin = time.perf_counter()
        yield
        self._paused_seconds += time.perf_counter() - begin

    def summarize(self) -> TrainingSummary:
        """Stop the clock."""
        if self._unchecked:
            self._check()
        seconds = time.perf_counter() - self._begin - self._paused_seconds
        return TrainingSummary(self._steps, self._examples, seconds, tuple(self._losses))


def outputs(model: FineTunedModel, questions: Questions, machine: ComputeSettings) -> np.ndarray:
    """Return the outputs at all asked positions, float32 [M, C], in their order; the model is left in its mode.

    Raises:
        EvaluationError: an output is not finite.
    """
    by_size = np.argsort(questions.sequences.sizes, kind="stable")
    rows: list[np.ndarray] = []
    values: list[np.ndarray] = []
    with evaluation_mode(model), progress("Answering", len(questions)) as advance:
        for chosen in cut_into_passes(questions.sequences.sizes, by_size, machine.tokens_per_pass):
            with machine.autocast():
                values.append(model(machine.batch(questions, chosen).to(machine.device)).cpu().numpy())
            rows.append(questions.asked_rows(chosen))
            advance(len(chosen))
    joined = np.concatenate(values)
    if not np.isfinite(joined).all():
        raise EvaluationError(
            "the fine-tuned model gives numbers that are not finite",
            "finite weights",
            "lower training.learning_rate, or set training.precision=float32",
        )
    in_order = np.empty_like(joined)
    in_order[np.concatenate(rows)] = joined
    return in_order


def explain_memory_errors(settings: FineTuning) -> AbstractContextManager[None]:
    """Turn "out of memory" into a message that says what to lower (`explain_allocation_errors`)."""
    return explain_allocation_errors(
        f"not enough memory to fine-tune with {settings.tokens_per_pass} tokens in a pass",
        "a pass that fits",
        f"--set training.tokens_per_pass={max(256, settings.tokens_per_pass // 4)} (results stay the same), or "
        "lower training.max_length",
    )
