"""Every link and every path that the documentation names leads somewhere."""

import re
from pathlib import Path

from tests.docs.conftest import PAGES, ROOT, code_spans, name_of, prose, snippets

PACKAGE = ROOT / "src" / "maskwright"
TOP_FOLDERS = {"src", "docs", "tests", "recipes", "examples", "benchmarks"}
PARTS = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
INVENTED = re.compile(r"my_|<|\*|\.\.\.|step-000500|evaluation/(held_out|<task>)\.json")
"""What stands for a name of the reader's own, or lies in a run folder."""

PATH = re.compile(r"(?<![\w./-])(?:[\w.-]+/)+(?:[\w.-]+)?")


def anchors(page: Path) -> set[str]:
    """Return the names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def missing(path: str) -> bool:
    """Return whether a path in the text names a file of ours that does not exist."""
    first = path.split("/")[0]
    if INVENTED.search(path):
        return False
    if first in TOP_FOLDERS:
        return not (ROOT / path).exists()
    if first in PARTS:
        return not (PACKAGE / path).exists()
    return False


def test_the_pages_are_found():
    assert {"README.md", "CONTRIBUTING.md", "docs/journey.md"} <= {name_of(page) for page in PAGES}


def leads_somewhere(target: str, page: Path) -> bool:
    """Return whether the file and the heading that a relative link names exist."""
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    return file.exists() and (not anchor or anchor in anchors(file))


def test_every_relative_link_leads_somewhere():
    links = [(page, target) for page in PAGES for target in re.findall(r"\]\(([^)\s]+)\)", prose(page))]
    relative = [link for link in links if not link[1].startswith(("http:", "https:", "mailto:"))]
    assert relative
    assert [f"{name_of(page)}: {target}" for page, target in relative if not leads_somewhere(target, page)] == []


def test_a_broken_link_is_noticed():
    page = ROOT / "README.md"
    assert leads_somewhere("docs/journey.md#the-run-folder", page)
    assert not leads_somewhere("docs/journey.md#nowhere", page) and not leads_somewhere("nowhere.md", page)


def test_every_path_in_the_text_exists():
    gone = []
    for page in PAGES:
        texts = code_spans(page) + [snippet.text for snippet in snippets(page) if snippet.language == "bash"]
        gone += [f"{name_of(page)}: {path}" for text in texts for path in PATH.findall(text) if missing(path)]
    assert not gone


def test_every_path_in_the_code_s_own_texts_exists():
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "recipes").rglob("*.yaml")]
    pattern = re.compile(r"\b((?:docs|tests|benchmarks|examples|recipes)/[\w/.-]+\.(?:md|py|yaml))")
    named = {(path, file) for file in files for path in pattern.findall(file.read_text(encoding="utf-8"))}
    assert named
    gone = [f"{name_of(file)} names {path}" for path, file in named if not (ROOT / path).exists()]
    assert not gone, "; ".join(sorted(gone))


def test_every_test_file_that_is_named_exists():
    existing = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    texts = [path.read_text(encoding="utf-8") for path in [*PAGES, *PACKAGE.rglob("*.py")]]
    named = {name for text in texts for name in re.findall(r"\btest_\w+\.py", text)}
    assert named
    assert named <= existing


def test_every_extra_that_is_named_can_be_installed():
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    named = {extra for text in texts for extra in re.findall(r"maskwright\[(\w+)\]", text)}
    assert named <= extras
