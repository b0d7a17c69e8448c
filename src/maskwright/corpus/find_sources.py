"""Find the sources that a recipe's `data` names."""

import glob
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from maskwright.core.discovery import load_plug_in, plug_in_names
from maskwright.core.errors import CorpusError, suggest_nearest
from maskwright.corpus.config import DataConfig
from maskwright.corpus.sources.base import Source

PACKAGE = "maskwright.corpus.sources"


@cache
def source_classes() -> tuple[type[Source], ...]:
    """Return every source in `corpus/sources/`."""
    return tuple(load_plug_in(PACKAGE, name, Source) for name in plug_in_names(PACKAGE))


def find_sources(names: Iterable[str], config: DataConfig) -> list[Source]:
    """Return the sources that the names stand for, files sorted by path, each once.

    Args:
        names: files, folders (read through, hidden files left out), globs, or names with a source's prefix.
        config: how to read them.

    Raises:
        CorpusError: a name stands for nothing that can be read.
    """
    found: dict[str, Source] = {}
    for name in names:
        for source in sources_named(name, config):
            found.setdefault(source.name, source)
    return list(found.values())


def sources_named(name: str, config: DataConfig) -> Iterator[Source]:
    """Yield the sources of one name."""
    if not name:
        raise CorpusError("a name in `data` is empty", "a file, folder or glob; this folder is '.'")
    for kind in source_classes():
        if kind.prefix and name.startswith(kind.prefix):
            yield kind(name, config)
            return
    path = Path(name).expanduser()
    if path.is_dir():
        files = list(files_below(path))
        if not files:
            raise CorpusError(f"{path} holds no file to read", f"files that end with {known_suffixes()}")
    elif path.exists():
        files = [path]
    else:
        matches = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207 (may be absolute)
        below = (files_below(match) if match.is_dir() else [match] for match in matches)
        files = [file for files in below for file in files if is_readable(file)]
        if not files:
            raise CorpusError(*nothing_found(path, bool(matches)))
    for file in files:
        yield kind_of_file(file)(str(file), config)


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the readable kinds of files in a folder and its folders, sorted; links to folders are not followed."""
    for parent, folders, names in os.walk(folder, onerror=refuse_folder):
        folders[:] = sorted(inner for inner in folders if not inner.startswith("."))
        for name in sorted(names):
            file = Path(parent, name)
            if not name.startswith(".") and is_readable(file):
                yield file


def refuse_folder(error: OSError) -> None:
    """Turn a folder that can't be listed into our error."""
    raise CorpusError(f"{error.filename} could not be read: {error.strerror}", "a folder that this user may read")


def is_readable(file: Path) -> bool:
    """Return whether a source claims this regular file."""
    return file.is_file() and file.name.endswith(tuple(all_suffixes()))


def kind_of_file(file: Path) -> type[Source]:
    """Return the source that claims the file.

    Raises:
        CorpusError: none does, or it is no regular file.
    """
    if not file.is_file():
        raise CorpusError(f"{file} is not a regular file", "a text file, or a folder or glob of such files")
    for kind in source_classes():
        if kind.suffixes and file.name.endswith(kind.suffixes):
            return kind
    raise CorpusError(
        f"{file}: its kind of file is not known", f"a name that ends with {known_suffixes()}", "rename or convert it"
    )


def all_suffixes() -> list[str]:
    """Return the suffixes that the sources claim."""
    return [suffix for kind in source_classes() for suffix in kind.suffixes]


def known_suffixes() -> str:
    """Return the suffixes in words."""
    return ", ".join(all_suffixes())


def nothing_found(path: Path, has_matches: bool) -> tuple[str, str, str]:
    """Return the message for a path or glob that stands for no file."""
    if has_matches:
        return f"{path} matches no kind of file that can be read", f"files that end with {known_suffixes()}", ""
    neighbours = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
    prefixes = ", ".join(kind.prefix + "..." for kind in source_classes() if kind.prefix)
    return f"{path} does not exist{suggest_nearest(path.name, neighbours)}", f"a file, folder, glob, or {prefixes}", ""
