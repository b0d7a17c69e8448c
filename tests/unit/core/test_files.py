"""Files are whole or absent."""

import errno
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import SafetensorError

from maskwright.core.errors import StorageError
from maskwright.core.files import (
    HOST,
    LONGEST_SILENCE,
    PROCESS,
    _this_machine,
    explain_disk_errors,
    make_folder,
    put_back,
    remove_folder,
    remove_leftovers,
    require_free_bytes,
    sha256_of_file,
    write_folder_atomically,
    write_json_atomically,
    write_text_atomically,
)


def everything_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_a_file_appears_whole_with_the_folders_it_needs(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_text_atomically(path, "Tisza\n")
    write_text_atomically(path, "árvíz\n")
    assert path.read_text(encoding="utf-8") == "árvíz\n"
    assert everything_in(tmp_path) == ["a", "b.txt"]


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path, monkeypatch, place):
    path = tmp_path / "a.txt"
    write_text_atomically(path, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync" if place == "fsync" else "pathlib.Path.replace", full)
    with pytest.raises(StorageError, match=r"a\.txt could not be written: No space left"):
        write_text_atomically(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert everything_in(tmp_path) == ["a.txt"]


def test_json_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json_atomically(tmp_path / "a.json", {"loss": float("nan")})
    assert everything_in(tmp_path) == []


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path):
    for content in ("old", "new"):
        with write_folder_atomically(tmp_path / "model") as new:
            (new / f"{content}.txt").write_text(content)
            (new / "sub").mkdir()
            assert new.parent == tmp_path
    assert everything_in(tmp_path) == ["model", "new.txt", "sub"]


def replace_and_die(path, at_rename):
    """Replace a folder in a process that is killed instead of making its n-th rename."""
    killed = "import os, sys; from maskwright.core.files import *; from pathlib import Path\n"
    killed += "rename, left = Path.rename, [int(sys.argv[2])]\n"
    killed += "def dying(self, new): left[0] -= 1; return rename(self, new) if left[0] else os._exit(9)\n"
    killed += "Path.rename = dying\n"
    killed += "with write_folder_atomically(Path(sys.argv[1])) as new: (new / 'new.txt').touch()"
    assert subprocess.run([sys.executable, "-c", killed, path, str(at_rename)], check=False).returncode == 9


@pytest.mark.parametrize(("at_rename", "kept"), [(1, "old.txt"), (2, "old.txt"), (3, "new.txt")])
@pytest.mark.parametrize("next_one", [put_back, lambda path: write_text_atomically(path.with_name("b"), "")])
def test_a_kill_while_a_folder_is_replaced_loses_nothing(tmp_path, at_rename, kept, next_one):
    model = tmp_path / "model"
    model.mkdir()
    (model / "old.txt").touch()
    replace_and_die(model, at_rename)
    next_one(model)
    assert everything_in(model) == [kept]
    write_text_atomically(tmp_path / "b", "")
    assert everything_in(tmp_path) == sorted(["b", "model", kept])


@pytest.mark.parametrize("at_rename", [1, 2])
def test_a_rename_that_fails_leaves_the_old_folder(tmp_path, monkeypatch, at_rename):
    with write_folder_atomically(tmp_path / "model") as new:
        (new / "old.txt").touch()
    rename, left = Path.rename, [at_rename]

    def failing(self, target):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(KeyboardInterrupt), write_folder_atomically(tmp_path / "model") as new:
        (new / "new.txt").touch()
    assert everything_in(tmp_path) == ["model", "old.txt"]


def test_what_was_moved_away_on_another_machine_is_put_back(tmp_path):
    (tmp_path / f".old-{'0' * 6}-1-{'0' * 16}-model").mkdir()
    put_back(tmp_path / "model")
    assert everything_in(tmp_path) == ["model"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_a_folder_that_fails_half_way_leaves_the_old_one(tmp_path, error):
    with write_folder_atomically(tmp_path / "model") as new:
        (new / "old.txt").write_text("old")
    with pytest.raises(type(error)), write_folder_atomically(tmp_path / "model") as new:
        (new / "new.txt").write_text("new")
        raise error
    assert everything_in(tmp_path) == ["model", "old.txt"]


def test_a_removed_folder_is_gone(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    remove_folder(tmp_path / "a")
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENOTDIR])
def test_errors_of_the_disk_name_the_place(tmp_path, number):
    rust = SafetensorError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")
    for error in (OSError(number, os.strerror(number)), rust):
        problem = f"place could not be written: {os.strerror(number)}"
        with pytest.raises(StorageError, match=problem), explain_disk_errors(tmp_path / "place"):
            raise error


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "x"), SafetensorError("invalid header")])
def test_other_errors_pass(tmp_path, error):
    with pytest.raises(type(error)), explain_disk_errors(tmp_path):
        raise error


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "a").write_text("")
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(StorageError, match="a path that is a folder or can become one"):
            make_folder(path)


def test_room_is_asked_for_first(tmp_path):
    require_free_bytes(tmp_path, 1, "a test")
    with pytest.raises(StorageError, match="MB for a test"):
        require_free_bytes(tmp_path, 2**60, "a test")


def test_checksums(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_what_a_killed_process_left_is_removed_by_the_next_writer(tmp_path):
    killed = "import os, sys; from maskwright.core.files import *; from pathlib import Path\n"
    killed += "with write_folder_atomically(Path(sys.argv[1])) as new: (new / 'a').touch(); os._exit(9)"
    subprocess.run([sys.executable, "-c", killed, tmp_path / "folder"], check=False)
    (left,) = everything_in(tmp_path)[:1]
    assert left.startswith(".tmp-") and left.endswith("-folder")
    write_text_atomically(tmp_path / "b", "")
    assert everything_in(tmp_path) == ["b"]


def test_what_is_under_way_is_left_alone(tmp_path):
    alive, mine = os.getppid(), os.getpid()
    kept = [
        f".tmp-{HOST}-{alive}-{'0' * 16}-x",
        f".tmp-{HOST}-{mine}-{PROCESS}{'0' * 8}-x",
        f".tmp-{'0' * 6}-1-{'0' * 16}-x",
    ]
    gone = [f".del-{HOST}-{mine}-{'0' * 16}-x", f".tmp-{'1' * 6}-1-{'0' * 16}-x"]
    for name in kept + gone:
        (tmp_path / name).touch()
    long_ago = time.time() - 2 * LONGEST_SILENCE
    os.utime(tmp_path / gone[1], (long_ago, long_ago))
    write_text_atomically(tmp_path / "b", "")
    assert everything_in(tmp_path) == sorted([*kept, "b"])


def test_a_container_of_the_same_name_is_another_machine(monkeypatch):
    assert _this_machine() == HOST
    monkeypatch.setattr(Path, "readlink", lambda path: Path("pid:[1]"))
    assert _this_machine() != HOST


def test_a_leftover_that_cannot_be_removed_is_in_nobodys_way(tmp_path, monkeypatch):
    (tmp_path / f".tmp-{HOST}-{os.getpid()}-{'0' * 16}-x").touch()

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    remove_leftovers(tmp_path)
