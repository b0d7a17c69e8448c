"""Maskwright pre-trains text encoders: any masked objective, one engine, a Hugging Face model out.

The command line's verbs are functions here, and nothing else is needed in a notebook:

    import maskwright

    run = maskwright.train("recipes/tiny.yaml", run="runs/mine")
    scores = maskwright.evaluate("runs/mine", tasks="held_out,word_order")

They are imported when they are first used, so that `import maskwright` takes no time (docs/python.md).
"""

import importlib
import sys
from types import ModuleType
from typing import Any

FUNCTIONS = {
    "prepare": "maskwright.pipeline.corpora",
    "train": "maskwright.pipeline.train",
    "evaluate": "maskwright.pipeline.evaluate",
    "compare": "maskwright.comparison.run_comparison",
    "export": "maskwright.pipeline.export_run",
    "fill": "maskwright.pipeline.fill_masks",
    "report": "maskwright.pipeline.draw_report",
    "plan": "maskwright.pipeline.plan_recipe",
    "tune": "maskwright.tuning.tune",
}
"""The functions of this package, by the module that holds them."""

__all__ = ["compare", "evaluate", "export", "fill", "plan", "prepare", "report", "train", "tune"]  # pyright: ignore[reportUnsupportedDunderAll]


class Package(ModuleType):
    """This package, in which `maskwright.export` stays the function when the folder `export/` is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Leave out what the import system would put in a function's place: sub-packages are found without it."""
        if not (name in FUNCTIONS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = Package


def __getattr__(name: str) -> Any:
    """Import a function when it is first asked for (PEP 562)."""
    if name not in FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(FUNCTIONS[name]), name)


def __dir__() -> list[str]:
    """Name the functions, for completion."""
    return sorted([*globals(), *FUNCTIONS])
