"""What a finished run reads masked text with, where that is more than the encoder it exported."""

import torch
from torch import nn

from maskwright.core.records import RunFolder, RunRecord
from maskwright.encoders.encoder import Encoder
from maskwright.export.folder import import_model
from maskwright.tokenization.folder import load_tokenizer
from maskwright.tokenization.special_tokens import vocabulary_of
from maskwright.training.assemble import build_model
from maskwright.training.checkpoint import Checkpoints, damage, load_model
from maskwright.training.recipe import parse_recipe


def reader_of_run(folder: RunFolder) -> nn.Module | None:
    """Return what the last phase of a run reads masked text with, on the CPU, where the encoder alone can't.

    It is not part of the export, so it is taken from the checkpoint that was exported.

    Args:
        folder: of a run with an exported model.

    Returns:
        A module of its own, encoder included; None where the encoder alone does it, or the checkpoint is gone.

    Raises:
        CheckpointError: the run's record is damaged.
        ExportError: the exported model is.
        RecipeError: the recipe names a plug-in that is not there.
    """
    record = RunRecord.read(folder.run_record)
    if record.plan.phases[-1].masks_at_input:
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
