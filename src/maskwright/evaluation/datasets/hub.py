"""Data sets of the Hugging Face hub, through the library `datasets`, which is optional."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from maskwright.core.errors import MissingData
from maskwright.core.optional import load_optional
from maskwright.evaluation.datasets.section import DataSection
from maskwright.evaluation.datasets.table_files import TableRow


def rows_of_split(section: DataSection, hub: str, split: str, title: str) -> Iterator[TableRow]:
    """Yield the rows of a split of the hub.

    Args:
        section: of the task, for the message.
        hub: owner/name, or owner/name/configuration.
        split: its name there.
        title: of the task, for the message.

    Raises:
        MissingData: `datasets` is not installed, or the data set can't be loaded; names both ways out.
    """
    for number, values in enumerate(_load(section, hub, split, title)):
        yield TableRow(f"row {number}", values)


def sha256_of_split(section: DataSection, hub: str, split: str, title: str) -> str:
    """Return the checksum of the rows of a split, which a change on the hub changes.

    Raises:
        MissingData: as `rows_of_split`.
    """
    digest = hashlib.sha256()
    for values in _load(section, hub, split, title):
        digest.update(json.dumps(values, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _load(section: DataSection, hub: str, split: str, title: str) -> Any:
    """Return the rows of a split as a data set of `datasets`."""
    files = [layout for layout in section.all_layouts() if layout.hub is None]
    source = f"get its files from {section.source} and " if section.source and files else ""
    by_folder = f"{source}name the folder that holds them with --data" if files else "try again with a network"
    try:
        datasets = load_optional("datasets")
    except ImportError as error:
        raise MissingData(
            f"{title or 'the data set'}: no --data was given, and datasets, which loads hf:{hub}, is not installed",
            "--data, or the library and a network",
            f'{by_folder}; or pip install "maskwright[hub]"',
        ) from error
    name, _, revision = hub.partition("@")
    owner, name, configuration = [*name.split("/", 2), "", ""][:3]
    try:
        return datasets.load_dataset(f"{owner}/{name}", configuration or None, split=split, revision=revision or None)
    # RuntimeError: the data set is a script, which is never run.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        problem = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MissingData(
            f"{title or 'the data set'}: no --data was given, and hf:{hub}, split {split}, can't be loaded: {problem}",
            "--data, or a data set of the hub that can be reached from here",
            f"{by_folder}; or check the network and `hf auth login` for closed data sets",
        ) from error
