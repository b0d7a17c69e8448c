"""What keeps a run safe: one writer per folder, signals that save and exit, updates that are finite or not made."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils import get_total_norm

from maskwright.core.batches import CorruptedBatch
from maskwright.core.errors import NonFiniteError
from maskwright.core.files import (
    write_folder_atomically,
    write_json_atomically,
)
from maskwright.core.hardware import explain_allocation_errors
from maskwright.core.ranks import Ranks


def refuse_non_finite(
    problem: str, step: int, numbers: range, batches: list[CorruptedBatch], checkpoint: Path, run_folder: Path
) -> NonFiniteError:
    """Write down what reproduces a loss or gradient that is not finite; return the error to raise.

    Args:
        problem: what was not finite.
        step: the step that was not made, counted from 0.
        numbers: this rank's micro-batches' numbers in the global batch.
        batches: those micro-batches, on any device.
        checkpoint: the weights before the step.
        run_folder: a folder `non_finite/step-...-micro-batch-...` is made in it by every rank.
    """
    folder = run_folder / "non_finite" / f"step-{step:06d}-micro-batch-{numbers[0]}"
    with write_folder_atomically(folder) as new:
        for number, batch in zip(numbers, batches, strict=True):
            tensors = {
                "token_ids_T": batch.clean.token_ids_T,
                "input_ids_T": batch.input.token_ids_T,
                **{f"positions_M.{name}": question.positions_M for name, question in batch.questions.items()},
                **{
                    f"targets.{name}": question.targets
                    for name, question in batch.questions.items()
                    if isinstance(question.targets, Tensor)
                },
                "document_ids_S": batch.clean.document_ids_S,
            }
            save_file(
                {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
                new / f"micro-batch-{number}.safetensors",
            )
        about = {"step": step, "problem": problem, "checkpoint_before": str(checkpoint)}
        write_json_atomically(new / "about.json", about)
    return NonFiniteError(
        f"step {step}: {problem}; the update was not made",
        "finite numbers",
        f"{_lower_rate(run_folder)}; or begin again with engine.dtype=float32; {folder} reproduces it",
    )


@torch.no_grad()
def require_finite(
    tensors: Mapping[str, Tensor], step: int, clean_step: int | None, run_folder: Path, ranks: Ranks
) -> None:
    """Raise on every rank if a tensor is not finite on any: what is written is what a run can go on with.

    Costs one pass over the tensors, and one number that the host waits for.

    Args:
        tensors: weights, or optimizer state, by name; what is no floating-point number is left out.
        step: steps done.
        clean_step: of the last checkpoint that was written or read, and so checked in this way; None: there is none.
        run_folder: where a run can go on from it.
        ranks: all processes of the run; all call together.

    Raises:
        NonFiniteError: the first such tensor is named.
    """
    problem = first_non_finite(tensors)
    device = next(iter(tensors.values())).device
    if not ranks.any(problem is not None, device):
        return
    raise NonFiniteError(
        f"after step {step}: {problem or 'a tensor of another process is not finite'}; nothing was saved",
        "finite weights and optimizer state",
        "begin again with a lower optimizer.learning_rate; no checkpoint was saved before"
        if clean_step is None
        else f"the checkpoint after step {clean_step} is clean: {_lower_rate(run_folder)}",
    )


def _lower_rate(run_folder: Path) -> str:
    """Return how to go on with a run from its newest checkpoint."""
    return f"go on with a lower rate: maskwright train --run {run_folder} --resume --set optimizer.learning_rate=RATE"


def first_non_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return what is not finite in words, or None."""
    if get_total_norm([tensor for tensor in tensors.values() if tensor.is_floating_point()]).isfinite():
        return None
    for name, tensor in tensors.items():  # norms of huge numbers overflow: only this pass is certain
        num_bad = tensor.numel() - int(tensor.isfinite().sum())
        if num_bad:
            return f"{name} is not finite in {num_bad:,} of {tensor.numel():,} numbers"
    return None


def memory_errors_explained(micro_batch_tokens: int) -> AbstractContextManager[None]:
    """Turn "out of memory" into a message that says what to lower (`explain_allocation_errors`)."""
    return explain_allocation_errors(
        f"not enough memory for micro-batches of {micro_batch_tokens} tokens",
        "a micro-batch that fits",
        f"halve batch.micro_batch_tokens: --set batch.micro_batch_tokens={micro_batch_tokens // 2} (the global "
        "batch stays the same)",
    )
