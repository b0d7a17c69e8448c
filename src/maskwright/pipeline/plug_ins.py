"""Shows the plug-ins that were discovered, in a terminal."""

import importlib
import inspect

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from maskwright.core.discovery import class_name_of, plug_in_names
from maskwright.evaluation.catalogue import shipped_suites, shipped_tasks

FOLDERS = {
    "objectives": "maskwright.objectives",
    "terms": "maskwright.objectives.terms",
    "strategies": "maskwright.masking.strategies",
    "families": "maskwright.encoders.families",
    "sources": "maskwright.corpus.sources",
    "samplers": "maskwright.batching.samplers",
    "kinds": "maskwright.tokenization.kinds",
    "tasks": "maskwright.evaluation.tasks",
    "exporters": "maskwright.export.families",
}


def print_plug_ins(kind: str) -> None:
    """Show the plug-ins of one kind, each with what it is for and its options; of tasks also those that are data."""
    console = Console(highlight=False)
    if kind == "tasks":
        _show_shipped_tasks(console)
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
            shown = "see the documentation" if hasattr(type(default), "model_fields") else default
            table.add_row("", f"[dim]{option} = {escape(str(shown))}: {escape(field.description or '')}[/dim]")
    console.print(table)


def _show_shipped_tasks(console: Console) -> None:
    """Print the suites and the tasks that are YAML files; the kinds they are made of follow."""
    for heading, entries in (("Suites", shipped_suites()), ("Tasks", shipped_tasks())):
        console.print(f"[bold]{heading}[/bold]")
        width = max(len(entry.name) for entry in entries)
        for entry in entries:
            # Not a table: addresses are copied, so they are not cut.
            line = f"[bold]{entry.name:{width}}[/bold]  {escape(entry.title)} [dim]({escape(entry.about)})[/dim]"
            console.print(line, soft_wrap=True)
    console.print("[bold]Kinds[/bold], for a task of your own (docs/tasks.md)")
