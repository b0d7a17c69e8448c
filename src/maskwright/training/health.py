"""What keeps a run safe: one writer per folder, signals that save and exit, updates that are finite or not made."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout
from safetensors.torch import save_file

from maskwright.core.batches import CorruptedBatch
from maskwright.core.errors import NonFiniteError, RunFolderBusy
from maskwright.core.files import (
    disk_errors_explained,
    folder_written_atomically,
    make_folder,
    write_json_atomically,
    write_text_atomically,
)
from maskwright.core.hardware import allocation_errors_explained
from maskwright.core.log import say


@contextmanager
def exclusive(run_folder: Path) -> Iterator[None]:
    """Hold a run folder for this process; a killed process gives it up at once.

    Raises:
        RunFolderBusy: another process holds it; it is named.
    """
    make_folder(run_folder)
    owner = run_folder / ".owner"
    lock = FileLock(run_folder / ".lock")
    try:
        with disk_errors_explained(run_folder):
            lock.acquire(timeout=0)
    except Timeout as error:
        who = owner.read_text(encoding="utf-8").strip() if owner.exists() else "another process"
        raise RunFolderBusy(
            f"{run_folder} is in use by {who}", "a run folder of its own", "wait for it, or choose another --run"
        ) from error
    try:
        write_text_atomically(owner, f"process {os.getpid()} on {socket.gethostname()}\n")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


class Interrupts:
    """Turns SIGINT, SIGTERM, SIGHUP and SIGUSR1 into a flag that the loop reads; a second one exits at once.

    The flag makes the loop save at the end of the current step. What was saved before is whole whatever happens.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

    def __init__(self) -> None:
        """Nothing is caught until the block is entered."""
        self.received: signal.Signals | None = None

    def __enter__(self) -> "Interrupts":
        """Begin to catch."""
        self._before = {number: signal.signal(number, self._receive) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        """Stop catching."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """Within the block signals do what they did before: for work that may end anywhere and be begun again."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            sys.stderr.write("\nstopped at once; the last checkpoint is whole\n")
            sys.stderr.flush()
            os._exit(128 + number)
        self.received = signal.Signals(number)
        say(f"\n{self.received.name}: saving after this step; once more to stop at once without saving")


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
    with folder_written_atomically(folder) as new:
        for number, batch in zip(numbers, batches, strict=True):
            tensors = {
                "token_ids_T": batch.clean.token_ids_T,
                "input_ids_T": batch.input_ids_T,
                "scored_positions_M": batch.scored_positions_M,
                "target_ids_M": batch.target_ids_M,
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
    """Turn "out of memory" into a message that says what to lower (`allocation_errors_explained`)."""
    return allocation_errors_explained(
        f"not enough memory for micro-batches of {micro_batch_tokens} tokens",
        "a micro-batch that fits",
        f"halve batch.micro_batch_tokens: --set batch.micro_batch_tokens={micro_batch_tokens // 2} (the global "
        "batch stays the same)",
    )
