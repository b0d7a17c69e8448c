"""Distillation: a teacher's distribution over the vocabulary at the selected positions, as it sees the clean text.

Source: Hinton et al. 2015, arXiv:1503.02531, at temperature 1; a baseline of Berend 2023, 2023.findings-acl.876.
Departures: none.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from maskwright.core.batches import UNUSED, CorruptedBatch, LossTerm, Movable, Question
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import Encoder
from maskwright.encoders.flops import flops_per_token, head_flops_per_token
from maskwright.heads.model_heads import ModelHeads
from maskwright.heads.token_head import TokenHead
from maskwright.masking.phase_start import PhaseStart
from maskwright.models.teacher import Teacher
from maskwright.objectives.terms.base import Hide, Term, TermConfig
from maskwright.semantics.phase_teacher import PHASE_BEFORE, PhaseTeacher, require_teacher, teacher_of_phase


@dataclass(frozen=True)
class TeacherLogits(Movable):
    """What the teacher says at each slot; rows of unused slots don't count.

    Attributes:
        token_ids_M: int64 [M], the clean tokens; `UNUSED` in unused slots.
        logits_MV: float32 [M, V].
    """

    token_ids_M: Tensor
    logits_MV: Tensor


class DistillationConfig(TermConfig):
    """Options of `distillation`."""

    teacher: str = Field(
        default=PHASE_BEFORE,
        description="phase_before, or a folder with any masked encoder or run that has the text's tokenizer",
    )

    @property
    def needs_phase_before(self) -> bool:
        """Whether the teacher is what the phase before trained."""
        return self.teacher == PHASE_BEFORE


class Distillation(Term):
    """Kullback-Leibler divergence from a teacher's predictions."""

    citation = "Hinton et al. 2015, Distilling the Knowledge in a Neural Network, arXiv:1503.02531"
    metrics = ("agreement",)
    needs_begin = True
    trains_vocabulary_head = True
    Config = DistillationConfig

    def __init__(self, config: DistillationConfig, encoder: Encoder, vocabulary: Vocabulary) -> None:
        """See `Term`.

        Raises:
            RecipeError: the teacher is not there, or has another tokenizer.
        """
        super().__init__(config, encoder, vocabulary)
        self.config: DistillationConfig = config
        self._teacher: Teacher | None = None
        if config.teacher != PHASE_BEFORE:
            require_teacher(config.teacher, vocabulary)

    def begin(self, encoder: Encoder, vocabulary_head: TokenHead, start: PhaseStart, hide: Hide) -> None:
        """Make or read the teacher.

        Raises:
            RecipeError: the teacher has another tokenizer.
            CheckpointError: the phase was begun with another teacher.
        """
        # Next to what other terms of the phase keep there.
        start = replace(start, folder=start.folder / self.name)
        teacher = teacher_of_phase(self.config.teacher, -1, self.vocabulary, start)
        PhaseTeacher.of(teacher, None).keep(start)
        self._teacher = teacher

    def complete(self, encoder: Encoder, batch: CorruptedBatch, question: Question) -> Question:
        """Let the teacher read the clean text."""
        assert self._teacher is not None, "begin comes first"
        logits_MV = self._teacher.logits(batch.clean, question.positions_M)
        return Question(question.positions_M, TeacherLogits(question.targets, logits_MV), question.count)

    def loss(self, x_MD: Tensor, question: Question, heads: ModelHeads) -> LossTerm:
        """See `Term`; how often both find the same token likeliest is reported as well."""
        targets = question.targets
        logits_MV = heads.logits(x_MD)
        is_used_M = targets.token_ids_M != UNUSED
        agrees_M = is_used_M & (logits_MV.detach().argmax(1) == targets.logits_MV.argmax(1))
        total = divergence_from_logits(logits_MV, targets.logits_MV, is_used_M)
        return self.answer(question, total, agreement=agrees_M.sum().float())

    def logits_per_slot(self) -> int:
        return self.vocabulary.size

    def flops_per_token(self, config: EncoderConfig, sequence_length: int, rate: float) -> float:
        """See `Term`: the vocabulary head, and a teacher like the student that reads the clean text."""
        return rate * head_flops_per_token(config) + flops_per_token(config, sequence_length, rate) / 3


def divergence_from_logits(logits_MV: Tensor, teacher_logits_MV: Tensor, is_used_M: Tensor) -> Tensor:
    """Return the sum over the rows in use of KL(softmax(teacher's logits) || softmax(logits)), temperature 1."""
    log_probabilities_MV, teacher_MV = logits_MV.log_softmax(1), teacher_logits_MV.log_softmax(1)
    divergence_M = F.kl_div(log_probabilities_MV, teacher_MV, reduction="none", log_target=True).sum(1)
    return torch.where(is_used_M, divergence_M, 0.0).sum()
