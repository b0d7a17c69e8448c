"""How the vocabulary head is run: how many slots it sees, what their logits take, and how they become a loss."""

import math
from collections.abc import Sequence

import torch

from maskwright.core.ranks import Ranks
from maskwright.core.records.run import EngineRecord
from maskwright.heads.cross_entropy import PLAIN_BYTES_PER_LOGIT, Way, fastest_way, logits_bytes
from maskwright.heads.vocabulary import VocabularyHead
from maskwright.training.model import Model
from maskwright.training.recipe.recipe import Recipe

CROSS_ENTROPY = {"whole": "logits as a whole", "own": "logits in pieces", "torch": "logits in pieces by torch"}
"""The words for each value of `EngineRecord.cross_entropy`."""


def most_scored(recipe: Recipe, phase: int, model: Model) -> int:
    """Return the most slots of a phase's micro-batch that the vocabulary head sees."""
    return math.ceil(model.objective.scored_fraction() * recipe.batches[phase].micro_batch_tokens)


def logits_of_heads(recipe: Recipe, models: Sequence[Model], engine: EngineRecord) -> int:
    """Return the bytes that logits and their gradients take, in the phase that needs most."""
    most, device = 0, torch.device(engine.device).type
    for phase, model in enumerate(models):
        num_slots, vocabulary_size = most_scored(recipe, phase, model), model.encoder.config.vocabulary_size
        if isinstance(model.vocabulary_head, VocabularyHead):
            most = max(most, logits_bytes(num_slots, vocabulary_size, device, engine.compiled))
        else:
            most = max(most, num_slots * vocabulary_size * PLAIN_BYTES_PER_LOGIT)
    return most


def decide_cross_entropy(recipe: Recipe, models: Sequence[Model], engine: EngineRecord, ranks: Ranks) -> Way:
    """Return how the largest logits of the run become a loss; the same on every rank.

    Args:
        recipe: gives the micro-batches.
        models: give the shapes, by phase; a head of another kind makes all logits at once.
        engine: device, precision, and whether the step is compiled.
        ranks: all processes of the run.
    """
    slots = [most_scored(recipe, phase, model) for phase, model in enumerate(models)]
    num_slots = max(slots)
    model = models[slots.index(num_slots)]
    if not isinstance(model.vocabulary_head, VocabularyHead):
        return "whole"
    device, config = torch.device(engine.device), model.encoder.config
    dtype = getattr(torch, engine.dtype)
    way = fastest_way(device, dtype, num_slots, config.vocabulary_size, config.embedding_width, engine.compiled)
    return "own" if ranks.any(way == "own", device) else way


def use_cross_entropy(model: Model, engine: EngineRecord) -> None:
    """Make the head use the chosen cross-entropy."""
    if isinstance(model.vocabulary_head, VocabularyHead):
        model.vocabulary_head.decoder.use_cross_entropy(engine.cross_entropy)
