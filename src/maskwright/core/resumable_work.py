"""Work that takes long, saved now and then, so that a killed process goes on near where it was."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from maskwright.core.errors import CheckpointError
from maskwright.core.files import put_back, write_folder_atomically
from maskwright.core.log import say

STATE = "state.safetensors"

SAVE_SECONDS = 60.0
"""Least time between two savings; more where saving takes long."""

LARGEST_SHARE_OF_SAVING = 0.05


class ResumableState:
    """What is unfinished, on disk: saved now and then, at most a twentieth of the time, whole or not at all."""

    def __init__(self, folder: Path, identity: Mapping[str, object], state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Nothing is written yet.

        Args:
            folder: where.
            identity: what the state belongs to; a state of something else is not read.
            state: returns what is to be saved.
        """
        self._folder, self._state = folder, state
        self._metadata = {"identity": json.dumps(identity, sort_keys=True)}
        self._due = time.monotonic() + SAVE_SECONDS

    def read(self) -> dict[str, Tensor] | None:
        """Return what was saved, None if nothing was, or something else.

        Raises:
            CheckpointError: it is damaged.
        """
        put_back(self._folder)
        path = self._folder / STATE
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                if file.metadata() != self._metadata:
                    say(f"{self._folder}: begun with other settings; beginning again")
                    return None
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path} can't be read: {error}", "the file as it was saved", f"delete {self._folder.parent}"
            ) from error

    def save_if_due(self) -> None:
        """Save if it is time to."""
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Save.

        Raises:
            StorageError: the disk is full.
        """
        begin = time.monotonic()
        with write_folder_atomically(self._folder) as new:
            save_file(
                {name: tensor.contiguous() for name, tensor in self._state().items()}, new / STATE, self._metadata
            )
        took = time.monotonic() - begin
        self._due = time.monotonic() + max(SAVE_SECONDS, took / LARGEST_SHARE_OF_SAVING)
