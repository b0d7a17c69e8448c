"""Discovery of plug-ins: a file in the right folder is enough, and no list is kept.

`objectives/late_mask.py` holds the class `LateMask` and makes `late_mask` a name in recipes. A plug-in outside the
package is named "module:Class".
"""

import importlib
import pkgutil
import sys
from pathlib import Path
from typing import TypeVar

from maskwright.core.errors import RecipeError, suggest_nearest

PlugIn = TypeVar("PlugIn")

NOT_PLUG_INS = frozenset({"base", "masked"})
"""Files next to the plug-ins that hold their base classes."""


def plug_in_names(package: str) -> list[str]:
    """Return the names of a folder's plug-ins, such as `plug_in_names("maskwright.objectives")`, sorted.

    Reads file names only; no plug-in is imported, so it is fast.
    """
    paths = importlib.import_module(package).__path__
    return sorted(
        module.name for module in pkgutil.iter_modules(paths) if not module.ispkg and module.name not in NOT_PLUG_INS
    )


def class_name_of(name: str) -> str:
    """Return the class that the plug-in file `name` must hold: "late_mask" -> "LateMask"."""
    return "".join(part.capitalize() for part in name.split("_"))


def load_plug_in(package: str, name: str, base: type[PlugIn]) -> type[PlugIn]:
    """Import one plug-in and return its class.

    Args:
        package: the folder, such as "maskwright.objectives".
        name: a file's name there, or "module:Class" for a plug-in outside the package.
        base: the class it must inherit from.

    Raises:
        RecipeError: no such plug-in, or it does not hold the class it should.
    """
    kind = package.rpartition(".")[2]
    module_name, separator, class_name = name.partition(":")
    if not separator:
        known = plug_in_names(package)
        if name not in known:
            raise RecipeError(
                f"{kind}: no plug-in is named {name!r}{suggest_nearest(name, known)}",
                "one of " + ", ".join(known) + ', or "module:Class" for one of your own',
            )
        module_name, class_name = f"{package}.{name}", class_name_of(name)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not module_name.startswith(error.name or module_name):
            raise
        raise RecipeError(
            f"{kind}: the module {module_name!r} of {name!r} was not found",
            "an importable module",
            "put the file next to the recipe, or its folder on PYTHONPATH",
        ) from error
    found = getattr(module, class_name, None)
    missing = getattr(found, "__abstractmethods__", ())
    if isinstance(found, type) and issubclass(found, base) and missing:
        raise RecipeError(
            f"{kind}: the class {class_name} of {module_name} lacks {', '.join(sorted(missing))}",
            f"all methods that {base.__name__} leaves to its sub-classes",
            f"write them; {base.__module__} says what each does",
        )
    if not (isinstance(found, type) and issubclass(found, base)):
        raise RecipeError(
            f"{kind}: {module_name} has no class {class_name} that inherits from {base.__name__}",
            f"class {class_name}({base.__name__})",
        )
    return found


def find_plug_ins_in(folder: Path) -> None:
    """Let "module:Class" in a recipe name a module in `folder`."""
    path = str(folder.resolve())
    if path not in sys.path:
        sys.path.insert(0, path)
