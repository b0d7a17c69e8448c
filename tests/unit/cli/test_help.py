"""Help: quick, and about every option."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from maskwright import cli
from maskwright.cli.main import VERBS, load


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_explained(maskwright, verb):
    said = maskwright(verb, "--help")
    assert said.code == 0
    shown = " ".join(re.sub(r"[│╭╮╰╯─]", " ", said.out).split())
    function = load(VERBS[verb][0])
    explained = dict(re.findall(r"^ {4}(\w+): (.*)$", inspect.getdoc(function) or "", re.MULTILINE))
    assert set(explained) == set(inspect.signature(function).parameters)
    for name, explanation in explained.items():
        assert len(explanation.split()) >= 2, f"{name}: {explanation}"
        assert " ".join(explanation.split()[:2]) in shown, f"{name} is not in the help"
    assert "None}" not in said.out


def test_the_overview_names_every_verb(maskwright):
    said = maskwright()
    assert said.code == 0
    for verb in VERBS:
        assert re.search(rf"^  {verb} +\w", said.out, re.MULTILINE)


@pytest.mark.parametrize("verb", VERBS)
def test_the_overview_says_what_the_modules_say(verb):
    """The line of the overview begins what the first line of the verb's module says."""
    path, line = VERBS[verb]
    said = (importlib.import_module(path.partition(":")[0]).__doc__ or "").partition("\n")[0]
    assert said.startswith(f"`maskwright {verb}`: {line}"), said


def test_every_verb_names_functions_that_there_are(maskwright):
    """Work that a verb asks for can be imported, and so can what shows it."""
    for path in Path(cli.__file__).parent.glob("*.py"):
        for name in re.findall(r'"(maskwright\.[\w.]+:\w+)"', path.read_text(encoding="utf-8")):
            assert callable(load(name)), name


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom maskwright.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'numpy', 'pydantic', 'matplotlib', 'jinja2'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    for arguments in ([], ["--help"], ["train", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert "usage: maskwright" in done.stdout
        assert done.stderr == "[]\n"
