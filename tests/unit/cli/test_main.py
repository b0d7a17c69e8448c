"""From errors to exit codes and messages."""

import os
import signal
import subprocess
import sys

import pytest

from maskwright.cli import main as command_line
from maskwright.core import errors
from maskwright.core.errors import CorpusError, MaskwrightError

ALL_ERRORS = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, MaskwrightError) and error is not MaskwrightError
]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    """Return a function that makes the verb `report` raise something."""

    def fail(error: BaseException) -> None:
        def run(verb: str, arguments: list[str]) -> None:
            raise error

        monkeypatch.setattr(command_line, "run", run)

    return fail


@pytest.mark.parametrize("error", ALL_ERRORS)
def test_every_error_has_its_message_and_exit_code(maskwright, failing, error):
    failing(error("got this", "that", "do so"))
    said = maskwright("report")
    assert said.code == error.exit_code
    assert said.err == "error: got this\nexpected: that\nto do: do so\n"
    assert said.out == ""


def test_exit_codes_tell_the_errors_apart():
    codes = [error.exit_code for error in ALL_ERRORS]
    assert len(set(codes)) == len(codes)
    assert not {0, 1, 2} & set(codes)


def test_debug_lets_the_error_through(maskwright, failing):
    failing(CorpusError("got this"))
    with pytest.raises(CorpusError, match="got this"):
        maskwright("report", "--debug")


def test_a_mistake_of_the_program_is_not_dressed_up(maskwright, failing):
    failing(KeyError("a bug"))
    with pytest.raises(KeyError):
        maskwright("report")


def test_interrupts_outside_training(maskwright, failing):
    failing(KeyboardInterrupt())
    said = maskwright("report")
    assert (said.code, "interrupted" in said.err) == (130, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_outside_training(maskwright, monkeypatch, number):
    monkeypatch.setattr(command_line, "run", lambda *_: os.kill(os.getpid(), number))
    said = maskwright("report")
    assert (said.code, number.name in said.err) == (128 + number, True)


def test_a_verb_with_a_typo_names_the_nearest(maskwright):
    said = maskwright("evalute", "runs/mine")
    assert said.code == 2
    assert "did you mean 'evaluate'" in said.err


def test_an_option_with_a_typo_names_the_nearest(maskwright):
    said = maskwright("train", "--reseme")
    assert said.code == 2
    assert "--resume" in said.err


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m maskwright list objectives | true"
    assert subprocess.run(["sh", "-c", command], capture_output=True, text=True).stderr == ""
