"""`maskwright doctor`: is everything installed, is a corpus or run whole."""

from pathlib import Path
from typing import Annotated

import tyro

from maskwright.cli.work import Work


def doctor(path: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="FOLDER")] = None) -> Work:
    """Check the installation, or every checksum of a run or a prepared corpus.

    Args:
        path: a run folder or a prepared corpus; left out, the installation is checked.
    """
    return Work("maskwright.pipeline.doctor:doctor", path)
