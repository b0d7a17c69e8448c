"""`maskwright evaluate`: score a model and, inside a run folder, redraw its report and model card."""

from typing import Annotated

import tyro

from maskwright.cli.work import Work
from maskwright.pipeline.verb_options import EvaluationOptions


def evaluate(model: Annotated[str, tyro.conf.arg(metavar="MODEL")], /, how: EvaluationOptions) -> Work:
    """Score a model and write one record a task.

    Any masked encoder can be scored. Given a run folder, the records go to RUN/evaluation, and report.html and the
    model card are redrawn.

    Args:
        model: a run folder, any Hugging Face model folder, or a model's name on the hub.
        how: by what, on which data, how often.
    """
    return Work("maskwright.pipeline.evaluate:evaluate", model, options=how)
