"""Every recipe in the documentation and the examples is one that the program takes."""

from pathlib import Path
from typing import Any

from tests.docs.conftest import PAGES, ROOT, name_of, snippets

from maskwright.core.errors import RecipeError
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


def test_every_snippet_is_a_recipe_or_a_part_of_one(tmp_path, monkeypatch):
    assert YAML_SNIPPETS
    problems = []
    for number, snippet in enumerate(YAML_SNIPPETS):
        folder, origin = tmp_path / str(number), name_of(snippet.page)
        folder.mkdir()
        written_files(snippet.page, folder)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(folder))
            try:
                parse_recipe(LEAST_RECIPE | parse_yaml(snippet.text, origin), origin)
            except RecipeError as error:
                problems.append(f"{origin}: {error}")
    assert not problems


EXAMPLES = [path for path in sorted((ROOT / "examples").glob("*/*.yaml")) if not path.read_text().startswith(TASKS)]


def test_every_example_is_a_recipe(monkeypatch):
    assert EXAMPLES
    problems = []
    for path in EXAMPLES:
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(path.parent))
            try:
                read_recipe(path)
            except RecipeError as error:
                problems.append(f"{name_of(path)}: {error}")
    assert not problems
