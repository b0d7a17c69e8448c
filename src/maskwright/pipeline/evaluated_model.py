"""What is evaluated, put together where training and evaluation meet: a model, and what its run fills masks with."""

from pathlib import Path

from torch import nn

from maskwright.core.records.run import RunFolder
from maskwright.corpus.corpus import Corpus
from maskwright.evaluation.evaluated_model import EvaluatedModel
from maskwright.pipeline.locate import record_of
from maskwright.pipeline.recipes import find_plug_ins_in
from maskwright.training.trained_run import reader_of_run


def subject_of(model: str | Path, corpus: Corpus | None = None, data: Path | None = None) -> EvaluatedModel:
    """Return a model under evaluation; its run's decoder fills masks where the encoder was not taught to.

    Args:
        model: a model folder, or a name on the hub.
        corpus: for the tasks that score one.
        data: the folder of the tasks' data sets.
    """
    return EvaluatedModel(model, corpus, data, reader_of=_reader_of)


def _reader_of(run: RunFolder) -> nn.Module | None:
    if recipe_folder := record_of(run.path).recipe_folder:
        find_plug_ins_in(Path(recipe_folder))
    return reader_of_run(run)
