"""Options of masked latent semantic modelling, and which of them go together."""

from typing import Literal, Self

from pydantic import Field, model_validator

from maskwright.masking.masking import MaskingOptions
from maskwright.masking.rates import Rate
from maskwright.semantics.phase_teacher import PHASE_BEFORE, DictionaryOptions
from maskwright.semantics.targets import CodingOptions

ITSELF = "itself"


class MlsmOptions(MaskingOptions):
    """Options of `mlsm`."""

    rate: Rate = Field(
        default=0.15,
        description="share of the text tokens that are scored, in (0, 1), or {start, end, shape} over the phase; 0.15 "
        "and always [MASK] as Berend 2023",
    )
    teacher: str = Field(
        default=PHASE_BEFORE,
        description="phase_before; itself (codes of the student's own states); or a folder with any masked encoder or "
        "run that has the text's tokenizer",
    )
    layer: int = Field(
        default=-1,
        description="whose states are coded: 0 is the embedding's output, -1 the last layer, -2 the one before",
    )
    dictionary: DictionaryOptions = Field(
        default=DictionaryOptions(), description="the atoms: how the phase learns them, or where they are"
    )
    coding: CodingOptions = Field(default=CodingOptions(), description="how states become targets")
    target: Literal["codes", "strongest_atom", "teacher_tokens"] = Field(
        default="codes",
        description="codes: distributions over atoms; strongest_atom: the strongest alone (hard MLSM); teacher_tokens: "
        "the teacher's distribution over the vocabulary, without a dictionary (distillation)",
    )
    targets: Literal["cached", "online"] = Field(
        default="cached",
        description="cached: computed once for the whole corpus, before the first step; online: as the student trains",
    )
    mlm_weight: float = Field(
        default=1.0,
        ge=0,
        description="weight of MLM at the same positions; 1 as the BabyLM models, 0 where only fine-tuning matters: "
        "the vocabulary head is then neither run nor trained",
    )
    refresh_steps: int = Field(
        default=10_000,
        ge=1,
        description="with teacher: itself, steps between two dictionaries; MLM alone before the first",
    )

    @property
    def needs_phase_before(self) -> bool:
        """Whether the teacher is what the phase before trained."""
        return self.teacher == PHASE_BEFORE

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        left_out = []
        if self.target == "teacher_tokens":
            left_out = ["layer", "dictionary", "coding"]
            if self.teacher == ITSELF:
                raise ValueError("target: teacher_tokens needs a teacher other than itself")
        if self.teacher == PHASE_BEFORE and self.dictionary.folder:
            raise ValueError(
                "dictionary.folder holds atoms of a teacher that is there already: name that teacher's folder, or "
                "leave dictionary.folder out, and they are learned from the phase before"
            )
        if (self.target == "teacher_tokens" or self.teacher == ITSELF) and self.targets != "online":
            raise ValueError("target: teacher_tokens and teacher: itself can't be cached; set targets: online")
        if self.teacher == ITSELF:
            if self.mlm_weight == 0:
                raise ValueError("teacher: itself begins with MLM alone, so mlm_weight must be above 0")
            if self.dictionary.folder:
                raise ValueError("teacher: itself learns its dictionary, so dictionary.folder has no meaning")
        else:
            left_out.append("refresh_steps")
        for name in left_out:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no meaning with target: {self.target} and teacher: {self.teacher}")
        return self
