"""From the arguments of a verb to the work that they ask for."""

from collections.abc import Callable

import tyro

from maskwright.cli.work import Work


def parse(verb: Callable[..., Work], name: str, arguments: list[str]) -> Work:
    """Parse a verb's arguments; `--help` and mistakes end the process.

    Args:
        verb: declares the arguments and returns the work.
        name: of the verb.
        arguments: of the command line, after the verb.
    """
    return tyro.cli(verb, prog=f"maskwright {name}", args=arguments, config=(tyro.conf.OmitArgPrefixes,))
