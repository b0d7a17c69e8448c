"""Several objectives in one phase: each micro-batch is drawn for one of them, by ratios that may change.

Source: none of one paper; mixing a causal and a masked objective by a ratio is GPT-BERT's (Charpentier and Samuel 2024,
    arXiv:2410.24159), mixing denoisers is UL2's (Tay et al. 2022, arXiv:2205.05131).
Departures: a micro-batch is of one objective, so that each objective stays one compiled graph. Terms of the same name
    count together: their losses are averaged over all scored positions of the global batch, whichever objective asked.
Cost: the mean of the parts' costs at their highest ratios.
Prefer: when a model is to keep several abilities; for abilities one after the other use phases.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from maskwright.core.batches import CorruptedBatch, LossTerm, PackedBatch, Reading
from maskwright.core.options import Options
from maskwright.core.plug_in_field import Chosen, ChosenFrom
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import Corpus
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import Encoder
from maskwright.heads.token_head import TokenHead
from maskwright.masking.phase_start import PhaseStart
from maskwright.masking.rates import Rate, highest, rate_at
from maskwright.models.outcome import FillsMasks, Outcome
from maskwright.objectives.base import Objective, ObjectiveConfig
from maskwright.objectives.terms.base import Term

OBJECTIVES = ChosenFrom("maskwright.objectives", Objective)


class Part(Options):
    """One objective of a mixture."""

    objective: Annotated[Chosen[Objective], OBJECTIVES] = Field(description="an objective with its options")
    ratio: Rate = Field(
        default=0.5,
        description="how often, relative to the other parts, in (0, 1), or {start, end, shape} over the phase",
    )


class MixtureConfig(ObjectiveConfig):
    """Options of `mixture`."""

    parts: tuple[Part, ...] = Field(
        min_length=2, description="the objectives, each as {objective: ..., ratio: ...}; the first can fill masks"
    )

    @property
    def needs_phase_before(self) -> bool:
        """See `ObjectiveConfig`: whether a part does."""
        return any(part.objective.options.needs_phase_before for part in self.parts)

    @model_validator(mode="after")
    def _no_mixture_within(self) -> Self:
        if any(issubclass(part.objective.plug_in, Mixture) for part in self.parts):
            raise ValueError("a part of a mixture is a mixture; list its parts here instead")
        return self


@dataclass(frozen=True)
class MixedBatch(CorruptedBatch):
    """A batch of one of the objectives.

    Attributes:
        part: which of them.
        made: the batch as that objective made it.
    """

    part: int
    made: CorruptedBatch


class Mixture(Objective):
    """Draws one of several objectives for each micro-batch."""

    citation = "Charpentier and Samuel 2024, GPT or BERT: why not both?, arXiv:2410.24159 (a mixture by ratio)"
    Config = MixtureConfig

    def __init__(
        self, config: MixtureConfig, encoder: Encoder, vocabulary: Vocabulary, vocabulary_head: TokenHead
    ) -> None:
        super().__init__(config, encoder, vocabulary, vocabulary_head)
        made = [
            part.objective.plug_in(part.objective.options, encoder, vocabulary, vocabulary_head)
            for part in config.parts
        ]
        self.parts = nn.ModuleList(made)
        self._num_ranks = 1

    @classmethod
    def chosen_terms(cls, options: Any) -> Sequence[Chosen[Term]]:
        """See `Objective`: the parts have the terms."""
        return ()

    @classmethod
    def require_fit(
        cls, options: Any, encoder_class: type[Encoder], encoder: EncoderConfig, sequence_length: int
    ) -> None:
        """See `Objective`: every part fits."""
        for part in options.parts:
            part.objective.plug_in.require_fit(part.objective.options, encoder_class, encoder, sequence_length)

    @classmethod
    def fills_masks_with(cls, options: Any) -> FillsMasks:
        """See `Objective`: what the first part leaves."""
        return options.parts[0].objective.plug_in.fills_masks_with(options.parts[0].objective.options)

    @classmethod
    def all_terms(cls, options: Any) -> Sequence[Chosen[Term]]:
        """See `Objective`: those of the parts."""
        parts = [part.objective for part in options.parts]
        return [term for part in parts for term in part.plug_in.all_terms(part.options)]

    def part(self, index: int) -> Objective:
        """Return one of the objectives."""
        part = self.parts[index]
        assert isinstance(part, Objective)
        return part

    def all_parts(self) -> list[Objective]:
        """Return the objectives in order."""
        return [self.part(index) for index in range(len(self.parts))]

    def corrupt(self, packed: PackedBatch, generator: torch.Generator, progress: float) -> MixedBatch:
        """See `Objective`: draw the objective, then let it corrupt."""
        ratios = torch.tensor([rate_at(part.ratio, progress) for part in self.config.parts], dtype=torch.float64)
        index = int(torch.multinomial(ratios, 1, generator=generator))
        return _mixed(index, self.part(index).corrupt(packed, generator, progress))

    def complete(self, encoder: Encoder, batch: CorruptedBatch) -> CorruptedBatch:
        assert isinstance(batch, MixedBatch)
        return _mixed(batch.part, self.part(batch.part).complete(encoder, batch.made))

    def read(self, encoder: Encoder, batch: CorruptedBatch) -> Reading:
        assert isinstance(batch, MixedBatch)
        return self.part(batch.part).read(encoder, batch.made)

    def loss(self, encoder: Encoder, batch: CorruptedBatch) -> tuple[LossTerm, ...]:
        assert isinstance(batch, MixedBatch)
        first, *others = self.part(batch.part).loss(encoder, batch.made)
        if self._num_ranks > 1:
            # Gradients are reduced over processes that may have drawn other objectives: every weight takes part.
            nothing = torch.stack([0.0 * parameter.sum() for parameter in self.parameters()]).sum()
            first = replace(first, total=first.total + nothing)
        return first, *others

    @property
    def uses_every_parameter(self) -> bool:
        return True

    @property
    def compared_terms(self) -> frozenset[str]:
        """See `Objective`: those of all parts."""
        return frozenset[str]().union(*(part.compared_terms for part in self.all_parts()))

    @property
    def metric_terms(self) -> dict[str, str]:
        """See `Objective`: those of all parts."""
        names: dict[str, str] = {}
        for part in self.all_parts():
            names |= part.metric_terms
        return names

    @property
    def trains_vocabulary_head(self) -> bool:
        """See `Objective`: whether every part does, so that no micro-batch leaves it out."""
        return all(part.trains_vocabulary_head for part in self.all_parts())

    @property
    def needs_begin(self) -> bool:
        return True

    @property
    def citations(self) -> dict[str, str]:
        """See `Objective`: those of the parts and their terms."""
        found: dict[str, str] = {}
        for chosen, part in zip(self.config.parts, self.all_parts(), strict=True):
            found |= {chosen.objective.label: part.citation, **part.citations}
        return found

    def initialize(self, generator: torch.Generator) -> None:
        for part in self.all_parts():
            part.initialize(generator)

    def check_resources(self, corpus: Corpus, sequence_length: int, available_bytes: int) -> None:
        for part in self.all_parts():
            part.check_resources(corpus, sequence_length, available_bytes)

    def begin(self, encoder: Encoder, start: PhaseStart) -> None:
        """See `Objective`: each part has a folder of its own."""
        self._num_ranks = start.ranks.num_ranks
        for index, part in enumerate(self.all_parts()):
            part.begin(encoder, replace(start, folder=start.folder / f"part-{index + 1}"))

    def after_step(self, encoder: Encoder, num_steps: int) -> None:
        for part in self.all_parts():
            part.after_step(encoder, num_steps)

    def outcome(self, encoder: Encoder) -> Outcome:
        """See `Objective`: the heads of all parts; the first part fills masks."""
        outcomes = [part.outcome(encoder) for part in self.all_parts()]
        heads: dict[str, nn.Module] = {}
        for outcome in outcomes:
            heads = {**heads, **{kind: head for kind, head in outcome.heads.items() if kind not in heads}}
        return replace(outcomes[0], heads=heads)

    def reader(self, encoder: Encoder) -> nn.Module:
        """See `Objective`: that of the first part."""
        return self.part(0).reader(encoder)

    def scored_share(self) -> float:
        """See `Objective`: the largest of the parts'."""
        return max(part.scored_share() for part in self.all_parts())

    def scored_fraction(self) -> float:
        """See `Objective`: the largest of the parts'."""
        return max(part.scored_fraction() for part in self.all_parts())

    def flops_per_token(self, config: EncoderConfig, sequence_length: int) -> float:
        """See `Objective`: the mean of the parts' by their highest ratios."""
        ratios = [highest(part.ratio) for part in self.config.parts]
        each = [part.flops_per_token(config, sequence_length) for part in self.all_parts()]
        return sum(ratio * flops for ratio, flops in zip(ratios, each, strict=True)) / sum(ratios)


def _mixed(part: int, made: CorruptedBatch) -> MixedBatch:
    of_every_batch = {each.name: getattr(made, each.name) for each in fields(CorruptedBatch)}
    return MixedBatch(**of_every_batch, part=part, made=made)
