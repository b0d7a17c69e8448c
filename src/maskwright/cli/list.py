"""`maskwright list`: what was discovered."""

from typing import Literal

import tyro

FOLDERS = {
    "objectives": "maskwright.objectives",
    "families": "maskwright.encoders.families",
    "sources": "maskwright.corpus.sources",
    "tasks": "maskwright.evaluation.tasks",
    "exporters": "maskwright.export.families",
}


def list_plug_ins(
    kind: tyro.conf.Positional[Literal["objectives", "families", "sources", "tasks", "exporters"]],
) -> None:
    """Show the plug-ins of one kind, each with what it is for and its options.

    Args:
        kind: which plug-ins.
    """
    import importlib
    import inspect

    from rich.console import Console
    from rich.table import Table

    from maskwright.core.discovery import class_name_of, plug_in_names

    package = FOLDERS[kind]
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name in plug_in_names(package):
        plug_in = getattr(importlib.import_module(f"{package}.{name}"), class_name_of(name))
        options = getattr(getattr(plug_in, "Config", None), "model_fields", {})
        about = (inspect.getdoc(plug_in) or "").partition("\n")[0]
        table.add_row(name, about)
        for option, field in options.items():
            default = "required" if field.is_required() else field.get_default(call_default_factory=True)
            table.add_row("", f"[dim]{option} = {default!s}: {field.description or ''}[/dim]")
    Console(highlight=False).print(table)
