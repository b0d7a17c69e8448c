"""The documentation, taken apart: pages, links, commands and snippets."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "benchmarks/**/*.md")
    for path in ROOT.glob(pattern)
)
"""Every page for people."""

FENCE = re.compile(r"(?:<!-- (?P<mark>[^\n]*) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """A fenced block.

    Attributes:
        page: where it stands.
        language: after the fence, such as "python".
        text: what is inside.
        mark: the comment right before it: "runs", or "file: NAME"; empty if there is none.
    """

    page: Path
    language: str
    text: str
    mark: str


def snippets(page: Path) -> list[Snippet]:
    """Return the fenced blocks of a page."""
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Snippet(page, match["language"], match["text"], match["mark"] or "") for match in found]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def code_spans(page: Path) -> list[str]:
    """Return what stands between single backticks, line breaks read as spaces."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


def name_of(page: Path) -> str:
    """Return a page's path for the names of tests."""
    return str(page.relative_to(ROOT))
