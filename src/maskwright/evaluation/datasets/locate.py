"""Find a data set below the folder of `--data`, next to a YAML file, or on the hub, or say where to get it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from maskwright.core.errors import MissingData
from maskwright.core.files import sha256_of_file
from maskwright.core.options import Options
from maskwright.evaluation.datasets.hub import sha256_of_split
from maskwright.evaluation.datasets.section import DataLayout, DataSection


class Whereabouts(Options):
    """Where a data set is and how it is laid out."""

    folders: list[str] = Field(
        default=["."], description="folders below --data that may hold it; the first that has the files is taken"
    )
    hub: str | None = Field(
        default=None, description="its name on the hub as dataset/config, read where --data is not given"
    )
    source: str = Field(default="", description="where to get it, for the message when it is missing")
    folder: Path | None = Field(
        default=None,
        exclude=True,
        description="where it is looked for without --data; the folder of a YAML file of your own",
    )


def find_files(whereabouts: Whereabouts, names: Sequence[str], data: Path, title: str) -> list[Path]:
    """Return the files of a data set.

    Args:
        whereabouts: of the data set.
        names: the files it needs, relative to one of the folders; a glob such as "*.jsonl" stands for all that match.
        data: the folder of `--data`.
        title: of the task, for the message.

    Returns:
        The files, in the order of the names; those of a glob sorted.

    Raises:
        MissingData: no folder has them all; names the layout, what is missing and where to get it.
    """
    for folder in whereabouts.folders:
        found = [sorted((data / folder).glob(name)) for name in names]
        if all(found):
            return [path for paths in found for path in paths]
    base = data / whereabouts.folders[0]
    absent = next((name for name in names if not list(base.glob(name))), names[0])
    problem = f"{title}: {base / absent} does not exist" if data.is_dir() else f"{title}: {data} is no folder"
    layout = f"{base}/ with {', '.join(names)}"
    others = whereabouts.folders[1:]
    raise MissingData(
        problem,
        layout + (f" (or the same in {', '.join(others)})" if others else ""),
        f"get it from {whereabouts.source}" if whereabouts.source else "name the folder that holds it with --data",
    )


@dataclass(frozen=True)
class LocatedData:
    """A data set that was found.

    Attributes:
        layout: the one that was found.
        paths: the file of each split; empty for a data set of the hub.
        base: the folder that the files were looked for in.
    """

    layout: DataLayout
    paths: dict[str, Path]
    base: Path | None = None


def locate(section: DataSection, data: Path | None, title: str) -> LocatedData:
    """Return where a data set is.

    Without `--data` the folder of the YAML file is searched, then the hub is asked. Where `--data` is given, nothing is
    loaded from the hub.

    Raises:
        MissingData: it is not there; names what is missing, the layouts, and where to get it.
    """
    layouts = section.all_layouts()
    on_disk = [layout for layout in layouts if layout.hub is None]
    bases = [base for base in (data, section.folder) if base is not None]
    for base in bases:
        for layout in on_disk:
            for folder in layout.folders:
                paths = {name: base / folder / split.file for name, split in layout.files().items()}
                if all(path.is_file() for path in paths.values()):
                    return LocatedData(layout, paths, base)
    on_hub = [layout for layout in layouts if layout.hub is not None]
    if data is None and on_hub:
        return LocatedData(on_hub[0], {})
    raise _missing(section, on_disk, bases, title)


def _missing(section: DataSection, layouts: Sequence[DataLayout], bases: Sequence[Path], title: str) -> MissingData:
    """Return what says which file is missing: of the layout of which most is there."""
    name = title or "the data set"
    described = "; or ".join(layout_in_words(layout) for layout in layouts)
    to_do = f"get it from {section.source}" if section.source else "name the folder that holds it with --data"
    if not layouts:
        return MissingData(f"{name} is read from the hub only", "no --data", "evaluate it without --data")
    if not bases:
        return MissingData(f"{name} needs files, and no folder was given", described, f"{to_do}; then give --data")
    if not bases[0].is_dir():
        return MissingData(f"{name}: {bases[0]} is no folder", "the folder with the data sets, as --data", to_do)
    candidates = [
        [base / folder / split.file for split in layout.files().values()]
        for base in bases
        for layout in layouts
        for folder in layout.folders
    ]
    closest = max(candidates, key=lambda paths: sum(path.is_file() for path in paths))
    absent = next(path for path in closest if not path.is_file())
    return MissingData(f"{name}: {absent} does not exist", f"below {bases[0]}: {described}", to_do)


def layout_in_words(layout: DataLayout) -> str:
    """Return where a layout is, such as "glue/CoLA/ with train.tsv, dev.tsv"."""
    names = ", ".join(dict.fromkeys(split.file for split in layout.files().values()))
    if layout.hub is not None:
        return f"hf:{layout.hub} with {names}"
    return names if layout.folders[0] == "." else f"{layout.folders[0]}/ with {names}"


def files_sha256(section: DataSection, data: Path | None, title: str = "") -> dict[str, str]:
    """Return the checksum of every file of a data set, by its path; of the hub's, of the rows of each split.

    Args:
        section: of the task's YAML.
        data: the folder of `--data`; None if it is not given.
        title: of the task, for messages.

    Raises:
        MissingData: the data set is not there.
    """
    found = locate(section, data, title)
    if found.layout.hub is not None:
        hub, splits = found.layout.hub, found.layout.files().values()
        return {f"hf:{hub}/{split.file}": sha256_of_split(section, hub, split.file, title) for split in splits}
    return {str(path.relative_to(found.base or path.parent)): sha256_of_file(path) for path in found.paths.values()}
