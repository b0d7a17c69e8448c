"""Checksums of what is written, so that a damaged byte is found where a file is read, and by `maskwright doctor`.

A text file that is written alone ends with the checksum of what is before it, its seal: it is replaced in one step, and
there is no moment at which file and checksum differ. A folder that is written at once has `SHA256SUMS`, which
`sha256sum --check` reads too; it ends with its own seal, which tells it from other people's. What was written before
there were checksums has none, and is taken as it is.
"""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from maskwright.core.files import sha256_of_file, write_text_atomically
from maskwright.core.log import printable, warn

SUMS = "SHA256SUMS"

KEY = "sha256_of_the_rest"
"""In JSON the seal is the last key."""

SEALS = {
    ".json": (f',\n  "{KEY}": "', '"\n}\n'),
    ".jsonl": (f'{{"{KEY}": "', '"}\n'),
    ".html": ("<!-- sha256 of what is above: ", " -->\n"),
    ".md": ("<!-- sha256 of what is above: ", " -->\n"),
    ".yaml": ("# sha256 of what is above: ", "\n"),
    "": ("# sha256 of what is above: ", "\n"),
}
"""What stands before and after the checksum, by the ending of a file's name."""

JSON_END = "\n}\n"


def write_sealed(path: Path, text: str) -> None:
    """Write text with its seal, atomically; JSON must be an indented object that is not empty."""
    before, after = SEALS[path.suffix]
    body = text.removesuffix(JSON_END) if path.suffix == ".json" else text
    write_text_atomically(path, body + before + hashlib.sha256(body.encode()).hexdigest() + after)


def split_seal(content: bytes, suffix: str) -> tuple[bytes, bool | None]:
    """Return what was written without its seal, and whether that holds; None if there is no seal."""
    before, after = (re.escape(part).encode() for part in SEALS[suffix])
    found = re.search(rb"%b([0-9a-f]{64})%b\Z" % (before, after), content)
    if found is None:
        # A seal that is no longer at the end is no seal that was never there.
        is_sealed = SEALS[suffix][0].strip(",\n {").encode() in content
        return content, False if is_sealed else None
    body = content[: found.start()]
    holds = hashlib.sha256(body).hexdigest().encode() == found[1]
    return body + (JSON_END.encode() if suffix == ".json" else b""), holds


def without_seals(text: str, suffix: str) -> str:
    """Return text without the lines that are seals, wherever they stand: for a file that people edit."""
    before, after = map(re.escape, SEALS[suffix])
    return re.sub(f"{before}[0-9a-f]{{64}}{after}", "", text)


def seal_problem(path: Path, is_required: bool = True) -> str | None:
    """Return what is wrong with a text file by its seal; None if it holds, or if there is none and none is required."""
    try:
        _, holds = split_seal(path.read_bytes(), path.suffix)
    except OSError as error:
        return "it is missing" if isinstance(error, FileNotFoundError) else f"it can't be read: {error}"
    if holds is None:
        return "it has no checksum: it was altered, or an earlier version wrote it" if is_required else None
    return None if holds else "it was altered"


def write_sums(folder: Path) -> str:
    """Write `SHA256SUMS` of all files below a folder; return the checksum of that file."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    write_sealed(folder / SUMS, "".join(f"{sha256_of_file(path)}  {name}\n" for name, path in names.items()))
    return sha256_of_file(folder / SUMS)


def sums_problems(folder: Path, concerns: Callable[[str], bool] = lambda name: True) -> dict[Path, str]:
    """Return what is wrong with a folder by its `SHA256SUMS`, by path; nothing if it has none of ours.

    Args:
        folder: with files that were written at once; what came later is not looked at.
        concerns: by the name of a file, whether it is looked at.
    """
    sums = folder / SUMS
    if not sums.exists():
        return {}
    content, is_whole = split_seal(sums.read_bytes(), sums.suffix)
    if is_whole is None:
        return {}  # without our seal it is somebody else's, who may mean other files
    if not is_whole:
        return {sums: "it was altered"}
    problems = {}
    for line in content.decode().splitlines():
        expected, name = line.split("  ", 1)
        path = folder / name
        if not concerns(name):
            continue
        if not path.is_file():
            problems[path] = "it is missing"
        elif sha256_of_file(path) != expected:
            problems[path] = "it was altered"
    return problems


def warn_of_changes(folder: Path, concerns: Callable[[str], bool]) -> None:
    """Warn if a model folder is no longer as it was exported: people save their own changes into it.

    Args:
        folder: with or without `SHA256SUMS`.
        concerns: by the name of a file, whether it is looked at.
    """
    if problems := sums_problems(folder, concerns):
        names = ", ".join(path.name for path in problems)
        warn(
            f"{printable(str(folder))} was changed since it was exported ({names}), and is used as it is now; if "
            f"nobody changed it, it is damaged: export it again. Without {SUMS} nothing is compared"
        )
