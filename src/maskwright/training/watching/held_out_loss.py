"""The loss of a phase on held-out text: its objective's own terms, asked in the same way every time."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import torch

from maskwright.batching.samplers.base import Sampler
from maskwright.core.batches import CorruptedBatch
from maskwright.core.randomness import torch_generator
from maskwright.core.ranks import Ranks
from maskwright.corpus.corpus import Corpus
from maskwright.models.evaluation_mode import evaluation_mode
from maskwright.objectives.base import Objective
from maskwright.training.model import Model
from maskwright.training.recipe.recipe import Recipe
from maskwright.training.step_batches import RowKind, row_kind

PREFIX = "held_out_"
"""Begins the names of the figures: the loss, and the mean of every term by the name that it has in training."""

AT_PROGRESS = 1.0
"""Schedules stand where they end, whenever the loss is measured, so that it can be compared over a phase."""


class HeldOutLoss:
    """Corrupts the same held-out rows by the same random numbers every time, and takes the terms' means.

    The rows are the first of a stream over the held-out split, of the phase's length, at most once through the split.
    They are cut into micro-batches that are shared out over the ranks; the random numbers are a function of the seed
    and of the number of the micro-batch. What an objective or a strategy chooses by what the model has learned moves
    with the model all the same.
    """

    def __init__(self, recipe: Recipe, corpus: Corpus, ranks: Ranks) -> None:
        """Remember what is measured; rows are planned when a phase is measured for the first time.

        Args:
            recipe: gives the rows of each phase, the number of tokens (`probes.tokens`) and the seed.
            corpus: its held-out split is read.
            ranks: all processes of the run; all call together.
        """
        self._recipe, self._corpus, self._ranks = recipe, corpus, ranks
        self._streams: dict[RowKind, Sampler] = {}

    def __call__(self, model: Model, phase: int, dtype: torch.dtype) -> dict[str, float]:
        """Measure a phase whose objective has begun; the model is left as it is.

        Returns:
            "held_out_loss", the weighted sum of the means of the terms that can be compared, and "held_out_<name>" for
            every term and metric of the objective.
        """
        encoder, objective = model.encoder, model.objective
        device = encoder.embedding_weight_VE.device
        totals: dict[str, float] = defaultdict(float)
        counts: dict[str, float] = defaultdict(float)
        weighted: dict[str, float] = defaultdict(float)
        with evaluation_mode(encoder, objective):
            for batch in self._batches(objective, phase):
                completed = objective.complete(encoder, batch.to(device))
                with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    terms = objective.loss(encoder, completed)
                for term in terms:
                    counts[term.name] += float(batch.questions[term.name].count)
                    weighted[term.name] += term.weight * float(term.total)
                    for name, total in {term.name: term.total, **term.metrics}.items():
                        totals[name] += float(total)
        term_of = objective.metric_terms
        terms, names = sorted(set(term_of.values())), sorted(term_of)
        count_of = self._summed(counts, terms, device)
        means = {
            name: total / max(1.0, count_of[term_of[name]])
            for name, total in self._summed(totals, names, device).items()
        }
        each = self._summed(weighted, terms, device)
        loss = sum(each[name] / max(1.0, count_of[name]) for name in sorted(objective.compared_terms))
        return {f"{PREFIX}loss": loss} | {f"{PREFIX}{name}": mean for name, mean in means.items()}

    def _summed(self, sums: dict[str, float], names: list[str], device: torch.device) -> dict[str, float]:
        """Return sums over all ranks, of declared names."""
        return dict(zip(names, self._ranks.sum([sums[name] for name in names], device), strict=True))

    def _batches(self, objective: Objective, phase: int) -> Iterator[CorruptedBatch]:
        """Yield this rank's micro-batches, on the host."""
        recipe, stream = self._recipe, self._stream(phase)
        num_rows = min(stream.num_rows_per_epoch, max(1, recipe.probes.tokens // stream.row_length))
        rows_at_once = recipe.batches[phase].micro_batch_tokens // stream.row_length
        for number in range(self._ranks.rank, -(-num_rows // rows_at_once), self._ranks.num_ranks):
            first = number * rows_at_once
            packed = replace(stream.batch(first, min(rows_at_once, num_rows - first)), split="held_out")
            yield objective.corrupt(packed, torch_generator(recipe.seed, "held_out_loss", number), AT_PROGRESS)

    def _stream(self, phase: int) -> Sampler:
        kind = row_kind(self._recipe.phases[phase])
        if kind not in self._streams:
            length, sampler = kind
            split, vocabulary = self._corpus.split("held_out"), self._corpus.vocabulary
            self._streams[kind] = sampler.plug_in(sampler.options, split, vocabulary, length, self._recipe.seed)
        return self._streams[kind]
