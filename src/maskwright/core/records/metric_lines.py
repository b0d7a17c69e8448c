"""The lines of `metrics.jsonl`, which grows: its checksum is of the lines up to a step, and is kept at every save."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path


def lines_until(path: Path, step: int) -> list[bytes]:
    """Return the lines of steps up to `step`, as they are; those that can't be read, such as half a line, left out."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [line for line in lines if line.endswith(b"\n") and 0 <= _step_of(line) <= step]


def _step_of(line: bytes) -> int:
    """Return the step of a line, -1 if it can't be read."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return -1


def sha256_of_lines(lines: Iterable[bytes]) -> str:
    """Return the checksum of lines, one after the other."""
    return hashlib.sha256(b"".join(lines)).hexdigest()
