"""Help: quick, and about every option."""

import inspect
import re
import subprocess
import sys

import pytest

from maskwright.cli.main import VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_explained(maskwright, verb):
    said = maskwright(verb, "--help")
    assert said.code == 0
    shown = " ".join(re.sub(r"[│╭╮╰╯─]", " ", said.out).split())
    explained = dict(re.findall(r"^ {4}(\w+): (.*)$", inspect.getdoc(VERBS[verb]) or "", re.MULTILINE))
    assert set(explained) == set(inspect.signature(VERBS[verb]).parameters)
    for name, explanation in explained.items():
        assert len(explanation.split()) >= 2, f"{name}: {explanation}"
        assert " ".join(explanation.split()[:2]) in shown, f"{name} is not in the help"
    assert "None}" not in said.out


def test_the_overview_names_every_verb(maskwright):
    said = maskwright()
    assert said.code == 0
    for verb in VERBS:
        assert f"• {verb}" in said.out


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
