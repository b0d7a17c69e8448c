"""Every recipe in the documentation and the examples is one that the program takes."""

from pathlib import Path
from typing import Any

import pytest
from tests.docs.conftest import PAGES, ROOT, Snippet, name_of, snippets

from maskwright.core.strict_yaml import parse_yaml
from maskwright.training.recipe.recipe import parse_recipe, read_recipe

TASKS = ("kind:", "title:")
"""How the YAML of a task or of a suite begins; tests/docs/test_tasks.py reads those."""

COMPARISON = "comparison:"
"""How the YAML of a comparison begins; tests/docs/test_comparisons.py reads those."""

YAML_SNIPPETS = [
    snippet
    for page in PAGES
    for snippet in snippets(page)
    if snippet.language == "yaml" and not snippet.text.startswith((*TASKS, COMPARISON))
]
LEAST_RECIPE: dict[str, Any] = {"name": "documentation", "budget": {"steps": 1}}


def written_files(page: Path, folder: Path) -> None:
    """Write the files that a page shows into a folder."""
    for snippet in snippets(page):
        if snippet.mark.startswith("file: "):
            (folder / snippet.mark.removeprefix("file: ")).write_text(snippet.text, encoding="utf-8")


@pytest.mark.parametrize("snippet", YAML_SNIPPETS, ids=lambda snippet: name_of(snippet.page))
def test_every_snippet_is_a_recipe_or_a_part_of_one(snippet: Snippet, tmp_path, monkeypatch):
    written_files(snippet.page, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    parse_recipe(LEAST_RECIPE | parse_yaml(snippet.text, name_of(snippet.page)), name_of(snippet.page))


EXAMPLES = [path for path in sorted((ROOT / "examples").glob("*/*.yaml")) if not path.read_text().startswith(TASKS)]


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_every_example_is_a_recipe(path, monkeypatch):
    monkeypatch.syspath_prepend(str(path.parent))
    read_recipe(path)
