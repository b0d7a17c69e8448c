"""What keeps a run safe: one writer per folder, signals that save and exit, updates that are finite or not made."""

from contextlib import AbstractContextManager
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from maskwright.core.batches import CorruptedBatch
from maskwright.core.errors import NonFiniteError
from maskwright.core.files import (
    write_folder_atomically,
    write_json_atomically,
)
from maskwright.core.hardware import explain_allocation_errors


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
        f"lower optimizer.learning_rate or set engine.dtype=float32; {folder} reproduces it (--resume does the same "
        "step again)",
    )


def memory_errors_explained(micro_batch_tokens: int) -> AbstractContextManager[None]:
    """Turn "out of memory" into a message that says what to lower (`explain_allocation_errors`)."""
    return explain_allocation_errors(
        f"not enough memory for micro-batches of {micro_batch_tokens} tokens",
        "a micro-batch that fits",
        f"halve batch.micro_batch_tokens: --set batch.micro_batch_tokens={micro_batch_tokens // 2} (the global "
        "batch stays the same)",
    )
