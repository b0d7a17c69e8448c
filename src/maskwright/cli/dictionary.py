"""`maskwright dictionary`: latent semantic atoms from any encoder's hidden states."""

from typing import Annotated

import tyro

from maskwright.cli.work import Work
from maskwright.pipeline.verb_options import LearningOptions


def dictionary(model: Annotated[str, tyro.conf.arg(metavar="MODEL")], /, how: LearningOptions) -> Work:
    """Learn a dictionary of latent semantic atoms from a model's hidden states, and describe the atoms.

    The hidden states of text are coded as sparse mixtures of atoms; `maskwright profile` shows the atoms of a word, and
    the objective mlsm trains a student to predict them. Stopped anywhere, the same command goes on near there.

    Args:
        model: a run folder, any Hugging Face model folder, or a model's name on the hub.
        how: from what text, how many atoms.
    """
    return Work("maskwright.pipeline.learn_dictionary:dictionary", model, options=how)
