"""What training writes while it runs: metrics.jsonl always, TensorBoard where it is installed."""

import hashlib
import importlib.util
import json
import math
import os
import warnings
from pathlib import Path
from typing import Any

from maskwright.core.files import explain_disk_errors, write_bytes_atomically
from maskwright.core.log import warn
from maskwright.core.optional import load_optional
from maskwright.core.records.metric_lines import lines_until
from maskwright.training.watching.watcher import StepDone, Watcher


class MetricsLog(Watcher):
    """Appends one JSON object a line; on resume, lines after the resumed step are dropped first.

    Attributes:
        was_altered: whether the lines up to that step are not those that the checkpoint knows.
    """

    def __init__(self, path: Path, tensorboard: Path, resumed_step: int, sha256: str | None = None) -> None:
        """Open the log.

        Args:
            path: metrics.jsonl.
            tensorboard: folder for TensorBoard.
            resumed_step: steps done already; 0 begins a new log.
            sha256: of the lines up to that step, as the checkpoint knows it; if they differ, a warning says so.
        """
        kept = b"".join(lines_until(path, resumed_step))
        self._digest = hashlib.sha256(kept)
        self.was_altered = sha256 not in (None, self._digest.hexdigest())
        if self.was_altered:
            warn(f"{path} was altered since step {resumed_step} was saved; what can be read of it is kept")
        write_bytes_atomically(path, kept)
        self._path = path
        with explain_disk_errors(path):
            self._stream = path.open("a", encoding="utf-8")
            self._tensorboard = _tensorboard_writer(tensorboard, resumed_step)

    def sync(self) -> str:
        """Put all lines so far on the disk, and return their checksum: what is written down of them is there.

        Raises:
            StorageError: the disk is full.
        """
        with explain_disk_errors(self._path):
            os.fsync(self._stream.fileno())
        return self._digest.hexdigest()

    def after_step(self, step: StepDone) -> None:
        """Write one line, with null for what is not finite, and the same numbers to TensorBoard.

        Raises:
            StorageError: the disk is full.
        """
        number = step.state.step
        with explain_disk_errors(self._path):
            figures = {name: value if math.isfinite(value) else None for name, value in step.figures.items()}
            line = json.dumps({"step": number, **figures}, allow_nan=False) + "\n"
            self._digest.update(line.encode())
            self._stream.write(line)
            self._stream.flush()
            if self._tensorboard is not None:
                for name, value in step.figures.items():
                    self._tensorboard.add_scalar(name, value, number)

    def close(self) -> None:
        """Close both."""
        with explain_disk_errors(self._path):
            self._stream.close()
            if self._tensorboard is not None:
                self._tensorboard.close()


def _tensorboard_writer(folder: Path, resumed_step: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    with warnings.catch_warnings():
        # TensorBoard's generated protocol files warn on import; that is theirs to mend.
        warnings.simplefilter("ignore", DeprecationWarning)
        tensorboard = load_optional("torch.utils.tensorboard")
    return tensorboard.SummaryWriter(str(folder), purge_step=resumed_step + 1 if resumed_step else None)
