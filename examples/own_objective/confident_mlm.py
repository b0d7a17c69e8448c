"""MLM that is rewarded for not being too sure.

Source: Pereyra et al. 2017, Regularizing Neural Networks by Penalizing Confident Output Distributions,
    arXiv:1701.06548, equation 2.
Departures: none.
Cost: nothing besides the logits that the token term needs as well.
Prefer: when a model is to be asked how sure it is.
"""

from pydantic import Field

from maskwright.core.batches import UNUSED
from maskwright.objectives.base import TERMS, ChosenTerms
from maskwright.objectives.mlm import Mlm
from maskwright.objectives.terms.base import Term, TermConfig


class Confidence(Term):
    """The negative entropy of the predicted tokens."""

    citation = "Pereyra et al. 2017, Penalizing Confident Output Distributions, arXiv:1701.06548"
    trains_vocabulary_head = True

    class Config(TermConfig):
        """Options of `confidence`."""

        weight: float = Field(default=0.1, gt=0, description="weight of the negative entropy (the paper's beta)")

    def loss(self, x_MD, question, heads):
        """See `Term`; the term token finds the logits already made."""
        log_p_MV = heads.logits(x_MD).log_softmax(1)
        entropy_M = -(log_p_MV.exp() * log_p_MV).sum(1)
        return self.answer(question, -(entropy_M * (question.targets != UNUSED)).sum())

    def logits_per_slot(self):
        """See `Term`: those of the term token."""
        return 0

    def flops_per_token(self, config, sequence_length, rate):
        """See `Term`: the head is counted by the term token."""
        return 0.0


class ConfidentMlm(Mlm):
    """Masked language modelling with a penalty on confident predictions."""

    class Config(Mlm.Config):
        """Options of `confident_mlm`."""

        terms: ChosenTerms = (TERMS.choose("confident_mlm:Confidence"), TERMS.choose("token"))
