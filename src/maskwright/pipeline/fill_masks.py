"""Fills the masks of a text with a model's best guesses."""

from pathlib import Path

from maskwright.core.errors import EvaluationError
from maskwright.evaluation.fill import FilledText, fill_masks
from maskwright.pipeline.evaluated_model import subject_of
from maskwright.pipeline.locate import model_folder_of


def fill(model: str | Path, text: str, top: int = 5) -> FilledText:
    """Return the best guesses for each [MASK] of a text.

    Args:
        model: a run folder, any Hugging Face model folder with a vocabulary head, or a model's name on the hub.
        text: a text with [MASK] in place of one or more words.
        top: guesses for each mask.

    Raises:
        EvaluationError: the text has no mask, or the model can't fill any.
        ExportError: there is no such model.
    """
    if top < 1:
        raise EvaluationError(f"--top {top}", "at least 1")
    return fill_masks(subject_of(model_folder_of(model)).masked_language_model, text, top)
