"""What is evaluated, put together where training and evaluation meet: a model, and what its run fills masks with."""

from pathlib import Path

from maskwright.corpus.corpus import Corpus
from maskwright.evaluation.evaluated_model import EvaluatedModel
from maskwright.training.export_checkpoint import reader_of_model


def subject_of(model: str | Path, corpus: Corpus | None = None, data: Path | None = None) -> EvaluatedModel:
    """Return a model under evaluation; its run's decoder fills masks where the encoder was not taught to.

    Args:
        model: a model folder, or a name on the hub.
        corpus: for the tasks that score one.
        data: the folder of the tasks' data sets.
    """
    return EvaluatedModel(model, corpus, data, reader_of=reader_of_model)
