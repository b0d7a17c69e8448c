"""Every command line in the documentation is one that the program understands; nothing is run."""

import re
import shlex
import signal
import sys

import pytest
from tests.docs.conftest import PAGES, ROOT, code_spans, name_of, snippets

from maskwright.cli import main as cli
from maskwright.cli.parse import parse


def command_lines(page) -> list[list[str]]:
    """Return the arguments of each `maskwright ...` on a page; the name of a verb alone has one."""
    lines = [span for span in code_spans(page) if span.startswith("maskwright ")]
    for snippet in snippets(page):
        if snippet.language in ("", "bash"):
            lines += re.findall(r"^(?:torchrun .* -m -- |\S*/)?(maskwright .*)$", snippet.text, re.MULTILINE)
    return [shlex.split(line, comments=True)[1:] for line in lines]


COMMANDS = sorted({(name_of(page), tuple(line)) for page in PAGES for line in command_lines(page)})


@pytest.fixture
def understood(monkeypatch):
    """Return a function that reads a command line as the program does, with verbs that do nothing."""
    called = []

    def parse_alone(verb, arguments):
        called.append(parse(cli.load(cli.VERBS[verb][0]), verb, arguments))

    monkeypatch.setattr(cli, "run", parse_alone)
    before = signal.getsignal(signal.SIGTERM)

    def read(arguments) -> bool:
        called.clear()
        monkeypatch.setattr(sys, "argv", ["maskwright", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code == 0 and len(called) == 1

    yield read
    signal.signal(signal.SIGTERM, before)


def test_commands_are_found():
    assert ("README.md", ("train", "--run", "runs/mine", "--resume")) in COMMANDS


def test_every_command_is_understood(understood):
    known = {*cli.VERBS, "--help"}
    wrong = []
    for page, arguments in COMMANDS:
        is_right = "--help" in arguments or (arguments[0] in known if len(arguments) == 1 else understood(arguments))
        if not is_right:
            wrong.append(f"{page}: maskwright {shlex.join(arguments)}")
    assert not wrong


@pytest.mark.parametrize(
    "arguments", [("train", "recipe.yaml", "--dat", "x"), ("fil", "run", "text"), ("list", "nothing")]
)
def test_a_wrong_command_is_noticed(arguments, understood, capsys):
    assert not understood(arguments)


def test_every_verb_is_documented():
    documented = {arguments[0] for _, arguments in COMMANDS}
    assert set(cli.VERBS) <= documented


def test_the_cluster_script_says_what_the_program_understands(understood):
    script = (ROOT / "examples" / "cluster" / "train.slurm").read_text(encoding="utf-8")
    lines = re.findall(r"arguments=\((.*)\)", script)
    assert len(lines) == 2
    for line in lines:
        assert understood(shlex.split(line.replace('"${@:3}"', "--data my_texts")))


def test_make_knows_the_targets_that_are_named():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"(?:^|`)make (\w+)", page.read_text(), re.MULTILINE)}
    assert named
    assert named <= targets
