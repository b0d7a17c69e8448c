"""The reference pages say what the code says."""

import importlib.util
import inspect
import re

import pytest
from tests.docs.conftest import PAGES, ROOT, code_spans, name_of

from maskwright.core import errors
from maskwright.core.errors import MaskwrightError


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location(
        "generate_recipe_reference", ROOT / "docs" / "generate_recipe_reference.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_recipe_reference_is_up_to_date(generator):
    written = generator.REFERENCE.read_text(encoding="utf-8")
    assert written == generator.reference(), "run: .venv/bin/python docs/generate_recipe_reference.py"


def test_the_reference_of_task_keys_is_up_to_date(generator):
    written = generator.TASK_REFERENCE.read_text(encoding="utf-8")
    assert written == generator.task_reference(), "run: .venv/bin/python docs/generate_recipe_reference.py"


def test_every_recipe_key_in_the_text_exists(generator):
    references = generator.reference() + generator.task_reference()
    known = set(re.findall(r"^\| `([\w.]+)`", references, re.MULTILINE))
    sections = {key.split(".")[0] for key in known if "." in key}
    assert {"optimizer.learning_rate", "phases.0.objective.rate"} <= known
    unknown = [
        f"{name_of(page)}: {span}"
        for page in PAGES
        for span in code_spans(page)
        if re.fullmatch(r"[a-z]\w*(\.(?!safetensors)\w+)+", span) and span.split(".")[0] in sections
        if span not in known and not any(key.startswith(span + ".") for key in known)
    ]
    assert not unknown


def test_the_table_of_exit_codes_is_that_of_the_errors():
    classes = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, MaskwrightError)]
    expected = {
        (item.__name__, item.exit_code, (inspect.getdoc(item) or "").partition("\n")[0].split(". ")[0].rstrip("."))
        for item in classes
    }
    page = (ROOT / "docs" / "exit_codes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.*?)\.(?: .*)? \|$", page, re.MULTILINE)
    assert {(name, int(code), meaning) for code, name, meaning in rows} == expected


def test_no_two_errors_share_a_code():
    codes = [item.exit_code for item in vars(errors).values() if isinstance(item, type) and hasattr(item, "exit_code")]
    assert len(codes) == len(set(codes))
