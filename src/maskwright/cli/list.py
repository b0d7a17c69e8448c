"""`maskwright list`: the plug-ins that were discovered."""

from typing import Literal

import tyro

from maskwright.cli.work import Work


def list_plug_ins(
    kind: tyro.conf.Positional[
        Literal["objectives", "terms", "strategies", "families", "sources", "samplers", "kinds", "tasks", "exporters"]
    ],
) -> Work:
    """Show the plug-ins of one kind, each with what it is for and its options; of tasks also those that are data.

    Args:
        kind: which plug-ins.
    """
    return Work("maskwright.pipeline.plug_ins:print_plug_ins", kind)
