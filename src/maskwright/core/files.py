"""Atomic writes of files and folders, checksums, and disk space."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from maskwright.core.errors import StorageError


def sha256_of_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, read in pieces (about 1.6 GB/s on one core)."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Ask the operating system to put a file or folder on the disk now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


NOT_A_PATH = frozenset({errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG})
"""Errors of names that stand for something else, or can't stand for anything."""

UNWRITABLE = NOT_A_PATH | {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EROFS, errno.EACCES, errno.EPERM),
}
"""Those, and errors of the disk and of permissions."""


@contextlib.contextmanager
def explain_disk_errors(path: Path) -> Iterator[None]:
    """Turn "no space left" and similar errors into a `StorageError` that names the path.

    Raises:
        StorageError: the disk is full, over quota or read-only, or the path can't be made there.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = error_number(error)
        if number not in UNWRITABLE:
            raise
        problem = f"{path} could not be written: {os.strerror(number)}"
        if number in NOT_A_PATH:
            raise StorageError(problem, "a path that is a folder or can become one", "choose another path") from error
        raise StorageError(
            problem,
            "a disk with room that this user may write to",
            "free space or choose another folder; what was saved before is whole",
        ) from error


def error_number(error: OSError | SafetensorError) -> int | None:
    """Return the operating system's number of an error; safetensors has it in its message only."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        StorageError: it can't be made.
    """
    with explain_disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, now or after a crash, sees the old content or the new, never a part."""
    temporary = _beside(path, "tmp")
    make_folder(path.parent)
    with explain_disk_errors(path):
        remove_leftovers(path.parent)
        try:
            with temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    """`write_bytes_atomically` for UTF-8 text."""
    write_bytes_atomically(path, text.encode())


def write_json_atomically(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN and infinity are refused, they are not JSON."""
    write_text_atomically(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def write_folder_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` (replacing what was there) when the block ends well.

    Every file is synced before the rename. If the block raises, nothing is left behind and `path` is as it was. The
    folder that is replaced is moved away, and deleted only when the new one is in its place; `put_back` is for what a
    process left that was killed between the two.
    """
    temporary, replaced = _beside(path, "tmp"), _beside(path, "old")
    make_folder(path.parent)
    with explain_disk_errors(path):
        remove_leftovers(path.parent)
        try:
            temporary.mkdir()
            yield temporary
            for item in [*temporary.rglob("*"), temporary]:
                sync(item)
            if path.exists():
                path.rename(replaced)
            temporary.rename(path)
            sync(path.parent)
            if replaced.exists():
                remove_folder(replaced)
        finally:
            if replaced.exists() and not path.exists():
                replaced.rename(path)
            shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Delete a folder; a crash half-way leaves a `.del-*` folder, never a folder that looks whole."""
    shutil.rmtree(path.rename(_beside(path, "del")))


LEFTOVER = re.compile(
    r"\.(?P<kind>tmp|del|old)-(?P<host>[0-9a-f]{6})-(?P<pid>\d+)-(?P<process>[0-9a-f]{8})[0-9a-f]{8}-(?P<name>.+)"
)
"""Names of what is half written, half deleted, or whole and about to be replaced: by which process on which machine."""


def _this_machine() -> str:
    """Return what tells this machine, since it started, from others, and a container from others of its name."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # not on every system
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:6]


HOST, PROCESS = _this_machine(), uuid.uuid4().hex[:8]

LONGEST_SILENCE = 24 * 3600.0
"""Seconds without a change after which what another machine left is taken to be abandoned."""


def _beside(path: Path, kind: str) -> Path:
    """Return a name beside `path` that says whose it is; see `LEFTOVER`."""
    return path.with_name(f".{kind}-{HOST}-{os.getpid()}-{PROCESS}{uuid.uuid4().hex[:8]}-{path.name}")


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed left half written or half deleted in a folder; put back what they moved.

    Whoever writes into a folder does this first, so that nothing is left for good.
    """
    for path in folder.glob(".[tdo][mel][pld]-*"):
        owner = LEFTOVER.match(path.name)
        if owner is None:
            continue
        target = path.with_name(owner["name"])
        with contextlib.suppress(OSError):  # it vanished meanwhile, or is somebody's who lets nobody touch it
            is_abandoned = _is_abandoned(path, owner["host"], int(owner["pid"]), owner["process"])
            if owner["kind"] == "old" and not target.exists():
                # On another machine too: a process that lives leaves the place empty for no more than a moment.
                if is_abandoned or owner["host"] != HOST:
                    path.rename(target)
            elif is_abandoned and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif is_abandoned:
                path.unlink()


def put_back(folder: Path) -> None:
    """Put a folder back that a killed process had moved away to replace it; whoever reads it does this first."""
    if not folder.exists():
        remove_leftovers(folder.parent)


def _is_abandoned(path: Path, host: str, pid: int, process: str) -> bool:
    if host != HOST:
        with contextlib.suppress(OSError):  # it vanishes meanwhile: somebody is at it
            newest = max(each.stat().st_mtime for each in [path, *path.rglob("*")])
            return time.time() - newest > LONGEST_SILENCE
        return False
    if pid == os.getpid():
        return process != PROCESS  # the number was given to us after its owner was gone
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def require_free_bytes(folder: Path, num_bytes: int, purpose: str) -> None:
    """Raise a `StorageError` before anything is written, if `folder`'s disk has less than `num_bytes` free."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise StorageError(
            f"{folder} has {free / 1e6:,.1f} MB free",
            f"{num_bytes / 1e6:,.1f} MB for {purpose}",
            "free space or choose another folder; what was saved before is whole",
        )
