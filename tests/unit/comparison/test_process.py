"""Commands in processes of their own: how they end, in words; signals reach them once."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from maskwright.comparison.process import launch, problem_in_words


def test_a_command_ends_with_its_code():
    assert launch(["--help"]).code == 0
    assert launch(["nonsense"]).code == 2


def test_a_signal_is_passed_on_once_and_the_end_awaited(monkeypatch, tmp_path):
    """The process that is run instead counts what it gets, and ends like a run that saves."""
    script = tmp_path / "saves.py"
    script.write_text(
        "import signal, sys, time, pathlib\n"
        "got = []\n"
        "signal.signal(signal.SIGINT, lambda *_: got.append(1))\n"
        f"place = pathlib.Path({str(tmp_path)!r})\n"
        "(place / 'ready').touch()\n"
        "while not got: time.sleep(0.01)\n"
        "time.sleep(0.3)\n"
        "(place / 'saved').write_text(str(len(got)))\n"
        "sys.exit(130)\n"
    )
    popen = subprocess.Popen

    def instead(command, **options):
        return popen([sys.executable, str(script)], **options)

    def interrupt() -> None:
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", instead)
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=interrupt)
    thread.start()
    ended = launch(["train"])
    thread.join()
    assert (ended.code, ended.stopped_by) == (130, signal.SIGINT)
    assert (tmp_path / "saved").read_text() == "1"
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-9, "killed by SIGKILL; the machine may be short of memory"),
        (143, "killed by SIGTERM"),
        (70, "A loss, gradient or weight was not finite; what was saved before is clean (exit code 70)"),
        (71, "The batch does not fit into memory (exit code 71)"),
        (1, "ended with exit code 1"),
        (3, "ended with exit code 3"),
    ],
)
def test_an_end_in_words(code, words):
    assert problem_in_words(code) == words
