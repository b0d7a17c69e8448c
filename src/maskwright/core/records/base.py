"""The base of every record on disk: strict JSON, written atomically, with a checksum."""

import json
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from maskwright.core.errors import CheckpointError
from maskwright.core.integrity import KEY, split_seal, write_sealed
from maskwright.core.options import Options


class Record(Options):
    """A record on disk: strict, so that damage and other versions are noticed."""

    def write(self, path: Path) -> None:
        """Write as JSON, atomically, with a seal (`core/integrity.py`)."""
        write_sealed(path, json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record.

        Raises:
            CheckpointError: the file is missing, damaged or of another version; the message names the first problem.
        """
        try:
            content, is_whole = split_seal(path.read_bytes(), ".json")
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} does not exist", f"a {cls.__name__}") from error
        if is_whole is False:
            raise CheckpointError(
                f"{path} was altered: its checksum does not fit",
                "the file as it was written",
                f'restore it from a copy; if you changed it yourself, remove its last key, "{KEY}"',
            )
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            location = ".".join(map(str, first["loc"])) or "the file"
            raise CheckpointError(
                f"{path}: {location}: {first['msg']}", f"a {cls.__name__} written by this version of maskwright"
            ) from error
