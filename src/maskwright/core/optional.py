"""Packages that are used where they are installed, and are no dependency."""

import importlib
from typing import Any


def load_optional(name: str) -> Any:
    """Return a module of an optional package.

    Args:
        name: of the module, such as "pyarrow.parquet".

    Raises:
        ImportError: the package is not installed; the caller says what needs it and how to get it.
    """
    return importlib.import_module(name)
