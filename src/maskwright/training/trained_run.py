"""From a checkpoint to a verified Hugging Face folder."""

from pathlib import Path

import torch
from torch import nn

from maskwright.core.errors import CheckpointError, RecipeError
from maskwright.core.records.run import ExportRecord, RunFolder, RunRecord
from maskwright.corpus.corpus import open_corpus
from maskwright.encoders.encoder import Encoder
from maskwright.export.folder import export_model, import_model
from maskwright.tokenization.folder import load_tokenizer
from maskwright.tokenization.special_tokens import vocabulary_of
from maskwright.training.checkpoint import Checkpoints, damage, load_model, load_state
from maskwright.training.model import Model, build_model
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.run import require_same_corpus


def checkpoint_path(folder: RunFolder, step: int | None, best: bool) -> Path:
    """Return the checkpoint that was asked for: after `step`, the best one, or the newest whole one.

    Raises:
        CheckpointError: there is none, or it is damaged.
        RecipeError: both `step` and `best` were asked for.
    """
    if best and step is not None:
        raise RecipeError("--best with --step", "one of them")
    checkpoints = Checkpoints(folder.checkpoints, keep_last=1, keep_best=True)
    newest = checkpoints.newest_whole()
    if newest is None:
        raise CheckpointError(
            f"{folder.checkpoints} has no whole checkpoint", "a run that was trained for a while", "train it first"
        )
    if best:
        step = load_state(newest).best_step
        if step is None:
            raise CheckpointError(f"{folder.path} never measured held-out loss", "probes in its recipe", "leave --best")
    if step is None:
        return newest
    problem = damage(checkpoints.path(step))
    if problem:
        known = ", ".join(map(str, checkpoints.steps()))
        raise CheckpointError(f"{checkpoints.path(step)}: {problem}", f"one of the steps {known}")
    return checkpoints.path(step)


def export_run(
    folder: RunFolder, record: RunRecord, step: int | None = None, best: bool = False, out: Path | None = None
) -> Path:
    """Export a checkpoint of a run and note it in the run's record.

    Args:
        folder: of the run.
        record: of the run.
        step: of the checkpoint; the newest whole one by default.
        best: the checkpoint with the lowest held-out loss.
        out: RUN/model by default; only that one is noted in the record.

    Returns:
        The folder written.
    """
    path = checkpoint_path(folder, step, best)
    recipe = parse_recipe(record.recipe, str(folder.run_record))
    corpus = open_corpus(Path(record.corpus), verify=False)
    require_same_corpus(record, corpus)
    model: Model = build_model(recipe, corpus.vocabulary, None)
    load_model(path, model.tensors())
    target = out or folder.model
    export: ExportRecord = export_model(model.encoder, model.vocabulary_head, corpus.load_tokenizer(), target)
    if out is None:
        record.model_copy(update={"export": export}).write(folder.run_record)
    return target


def reader_of_run(folder: RunFolder) -> nn.Module | None:
    """Return the module that reads masked text for a run's last phase, on the CPU; None if the encoder does.

    It is not part of the export, so it is taken from the checkpoint that was exported.

    Args:
        folder: of a run with an exported model.

    Returns:
        A module of its own, encoder included; None if the encoder alone does it, or the checkpoint is gone.

    Raises:
        CheckpointError: the run's record is damaged.
        ExportError: the exported model is.
        RecipeError: the recipe names a plug-in that is not there.
    """
    record = RunRecord.read(folder.run_record)
    if record.plan.phases[-1].fills_masks != "reader":
        return None
    recipe = parse_recipe(record.recipe, str(folder.run_record))
    exported = import_model(folder.model).encoder
    model = build_model(recipe, vocabulary_of(load_tokenizer(folder.model)), None)
    checkpoints = Checkpoints(folder.checkpoints, keep_last=1, keep_best=True)
    for path in map(checkpoints.path, reversed(checkpoints.steps())):
        if damage(path) is None:
            load_model(path, model.tensors())
            if _are_equal(model.encoder, exported):
                return model.objectives[-1].reader(model.encoder)
    return None


def _are_equal(one: Encoder, other: Encoder) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
