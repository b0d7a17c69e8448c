"""One writer for each run folder."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from maskwright.core.errors import RunFolderBusy
from maskwright.core.files import (
    explain_disk_errors,
    make_folder,
    write_text_atomically,
)


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
        with explain_disk_errors(run_folder):
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
