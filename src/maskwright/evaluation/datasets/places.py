"""Find a data set in the folder of `--data`, or say where to get it."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from maskwright.core.errors import MissingData


class Whereabouts(BaseModel):
    """Where a data set is and how it is laid out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folders: list[str] = Field(
        default=["."], description="folders below --data that may hold it; the first that has the files is taken"
    )
    hub: str | None = Field(
        default=None, description="its name on the hub as dataset/config, read where --data is not given"
    )
    source: str = Field(default="", description="where to get it, for the message when it is missing")


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
    place = data / whereabouts.folders[0]
    absent = next((name for name in names if not list(place.glob(name))), names[0])
    problem = f"{title}: {place / absent} does not exist" if data.is_dir() else f"{title}: {data} is no folder"
    layout = f"{place}/ with {', '.join(names)}"
    others = whereabouts.folders[1:]
    raise MissingData(
        problem,
        layout + (f" (or the same in {', '.join(others)})" if others else ""),
        f"get it from {whereabouts.source}" if whereabouts.source else "name the folder that holds it with --data",
    )
