"""The embedded default corpus: the English that every installation holds, its docstrings."""

import ast
import contextlib
import gc
import importlib.metadata
import importlib.util
import os
import platform
import sysconfig
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from maskwright.core.errors import CorpusError
from maskwright.core.log import progress
from maskwright.corpus.sources.base import Piece, Source

PACKAGES = (
    "numpy", "networkx", "sympy", "mpmath", "torch", "transformers", "huggingface_hub", "matplotlib", "pydantic",
    "rich", "jinja2", "tyro", "fsspec",
)  # fmt: skip
"""Packages read, where installed: what this program depends on, and what that depends on."""

NOT_READ = frozenset({"test", "tests", "testing", "idle_test", "site-packages", "models"})
"""Folders left out besides private ones: tests, other packages, and transformers' models, which repeat one another."""

LEAST_WORDS = 8
Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Docstrings(Source):
    """Docstrings of the standard library and of installed packages. Source files are parsed, never run.

    A document is a file's docstrings in their order, each once in the whole corpus, so that documents are long
    enough to fill sequences. The same environment gives the same text.
    """

    prefix: ClassVar[str] = "builtin:docstrings"

    def pieces(self) -> Iterator[Piece]:
        """Yield a document for every source file that has some."""
        if self.name != self.prefix:
            raise CorpusError(f"{self.name} is not known", self.prefix)
        yield from all_docstrings()

    def num_text_bytes(self) -> None:
        """Return None: it is known only when the files were parsed."""

    def identity(self) -> dict[str, Any]:
        """Return the versions of Python and the packages."""
        names = importlib.metadata.packages_distributions()
        versions = {package: importlib.metadata.version(names[package][0]) for package in PACKAGES if package in names}
        return {"python": platform.python_version(), **versions}


@cache
def all_docstrings() -> tuple[Piece, ...]:
    """Return the documents; parsed once a process, since a corpus is read twice."""
    seen: set[str] = set()
    documents = []
    with garbage_collection_paused(), progress("parsing docstrings (packages)", 1 + len(PACKAGES)) as advance:
        for package, folder in folders():
            for path in source_files(folder):
                texts = [text for text in docstrings_of(path) if text not in seen]
                seen.update(texts)
                if texts:
                    documents.append(Piece("\n\n".join(texts), f"{package}/{path.relative_to(folder)}"))
            advance(1)
    return tuple(documents)


@contextlib.contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Pause the search for cycles: syntax trees have none, and for their many nodes it would search the whole program.

    It takes half of the time otherwise.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def folders() -> Iterator[tuple[str, Path]]:
    """Yield the standard library and the packages that are installed, by name, with their folders."""
    yield "python", Path(sysconfig.get_path("stdlib"))
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        if found is not None and found.origin is not None:
            yield package, Path(found.origin).parent


def source_files(folder: Path) -> Iterator[Path]:
    """Yield the public source files below a folder, sorted."""
    for parent, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if name not in NOT_READ and not name.startswith(("_", ".")))
        yield from (Path(parent, name) for name in sorted(names) if name.endswith(".py"))


def docstrings_of(path: Path) -> Iterator[str]:
    """Yield the docstrings of a file's module, classes and functions, but not of what is inside functions."""
    try:
        source = path.read_bytes()
        if b'"""' not in source:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            module = ast.parse(source)
    except (OSError, SyntaxError, ValueError):
        return  # a template, a file for another Python, or gone: nothing to read
    for node in (module, *documented(module)):
        text = ast.get_docstring(node)
        if text and len(text.split()) >= LEAST_WORDS:
            yield text.encode("utf-8", "replace").decode()  # an escape can spell half a character


def documented(node: ast.Module | ast.ClassDef) -> Iterator[Documented]:
    """Yield the classes and functions of a module, depth first in their order."""
    for inner in node.body:
        if isinstance(inner, Documented):
            yield inner
        if isinstance(inner, ast.ClassDef):
            yield from documented(inner)
