"""Every comparison in the documentation and the repository is one that the program takes."""

from pathlib import Path

import pytest
import yaml
from tests.docs.conftest import PAGES, ROOT, name_of, snippets
from tests.docs.test_recipes import COMPARISON

from maskwright.comparison.asked import ArmSection, ComparisonFile, read_comparison, resolved_arms
from maskwright.comparison.comparison_options import ComparisonOptions

PAGE = ROOT / "docs" / "compare.md"
FILES = sorted((ROOT / "comparisons").glob("*.yaml"))
SNIPPETS = [snippet for page in PAGES for snippet in snippets(page) if snippet.text.startswith(COMPARISON)]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_comparison_has_arms_that_can_be_compared(path: Path):
    how = ComparisonOptions()
    arms = resolved_arms(read_comparison([path], how), how)
    assert len(arms) >= 2


def test_the_mask_rates_are_those_of_the_names():
    how = ComparisonOptions()
    arms = resolved_arms(read_comparison([ROOT / "comparisons" / "mask_rates.yaml"], how), how)
    rates = {arm.name: arm.recipe.phases[0].objective.options.rate for arm in arms}
    assert rates == {f"{round(100 * rate)} %": rate for rate in rates.values()}


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: name_of(snippet.page))
def test_every_snippet_is_a_comparison(snippet, tmp_path, raw_recipe):
    (tmp_path / "my_recipe.yaml").write_text(yaml.safe_dump(raw_recipe | {"probes": {}}), encoding="utf-8")
    path = tmp_path / "comparison.yaml"
    path.write_text(snippet.text, encoding="utf-8")
    how = ComparisonOptions()
    asked = read_comparison([path], how)
    trained_here = [arm for arm in asked.arms if not arm.runs]
    assert len(resolved_arms(asked.model_copy(update={"arms": trained_here}), how)) >= 2


def test_the_page_explains_every_key():
    text = PAGE.read_text(encoding="utf-8")
    for key in (*ComparisonFile.model_fields, *ArmSection.model_fields):
        assert f"`{key}`" in text, key
