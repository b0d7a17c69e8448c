"""What every term promises beyond what its objective does: a sum, its source, and weights that the seed decides."""

import dataclasses
import inspect

import pytest
import torch
from torch import nn

from maskwright.core.batches import Question
from maskwright.core.errors import RecipeError
from maskwright.core.plug_in_field import Chosen
from maskwright.heads.model_heads import ModelHeads
from maskwright.objectives.masked import MaskedConfig
from maskwright.objectives.mlm import Mlm
from maskwright.objectives.terms.base import Term


def doubled(value):
    """Return every tensor of a value with its slots twice."""
    if isinstance(value, torch.Tensor):
        return torch.cat([value, value]) if value.ndim else 2 * value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(doubled, value))
    fields = {field.name: doubled(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return dataclasses.replace(value, **fields)


def test_a_term_is_a_sum_and_no_mean(objective, completed, batch, encoder):
    """The same slots twice are twice the total: the engine divides by the count of the whole batch."""
    result = completed(batch)
    reading = objective.read(encoder, result)
    heads = ModelHeads(objective.vocabulary_head, encoder.embedding_weight_VE)
    for name, question in reading.questions.items():
        if hasattr(objective, "parts"):
            continue  # those of a mixture are tested as objectives of their own
        once = objective.term(name).loss(reading.states[name], question, heads)
        twice = objective.term(name).loss(doubled(reading.states[name]), doubled(question), heads)
        torch.testing.assert_close(twice.total, 2 * once.total, rtol=1e-4, atol=1e-5)
        assert int(twice.count) == 2 * int(once.count)


def test_a_term_names_its_source(objective):
    for term in objective.terms.values():
        assert "Source: " in (inspect.getmodule(type(term)).__doc__ or "") and term.citation


class Half(Term):
    """What a newcomer may forget; each test leaves out something else."""

    citation = "a test"

    def __init__(self, config, encoder, vocabulary):
        super().__init__(config, encoder, vocabulary)
        self.head = nn.Linear(encoder.config.hidden_size, 1)

    def initialize(self, generator):
        nn.init.normal_(self.head.weight, generator=generator)
        nn.init.zeros_(self.head.bias)

    def loss(self, x_MD, question, heads):
        return self.answer(question, self.head(x_MD).sum())

    def logits_per_slot(self):
        return 1

    def flops_per_token(self, config, sequence_length, rate):
        return 0.0


class NoCitation(Half):
    citation = None


class NoWeightsDrawn(Half):
    initialize = Term.initialize


class NoSum(Half):
    def loss(self, x_MD, question, heads):
        return self.answer(question, self.head(x_MD).squeeze(1))


class NoAnswer(Half):
    def loss(self, x_MD, question, heads):
        return self.head(x_MD).sum()


def made(term: type[Term], encoder, vocabulary, vocabulary_head) -> Mlm:
    chosen = Chosen(term.__name__, term, term.Config())
    return Mlm(MaskedConfig(terms=(chosen,)), encoder, vocabulary, vocabulary_head)


@pytest.mark.parametrize(
    ("term", "message"),
    [(NoCitation, "NoCitation has no `citation`"), (NoWeightsDrawn, "weights of its own and no `initialize`")],
)
def test_what_a_term_lacks_is_said_before_anything_runs(term, message, encoder, vocabulary, vocabulary_head):
    with pytest.raises(RecipeError, match=message):
        made(term, encoder, vocabulary, vocabulary_head)


@pytest.mark.parametrize(("term", "message"), [(NoSum, "add .sum()"), (NoAnswer, "returns a Tensor")])
def test_a_loss_that_is_no_sum_is_refused(term, message, encoder, vocabulary, vocabulary_head, batch):
    objective = made(term, encoder, vocabulary, vocabulary_head)
    corrupted = objective.corrupt(batch, torch.Generator(), 0.0)
    with pytest.raises(RecipeError) as refusal:
        objective.loss(encoder, corrupted)
    assert message in str(refusal.value)


def test_numbers_are_targets_as_they_are(encoder, vocabulary, vocabulary_head, batch):
    objective = made(Half, encoder, vocabulary, vocabulary_head)
    corruption = objective.hide(batch, torch.Generator(), 0.0)
    question = corruption.ask(torch.linspace(0, 1, len(corruption.positions)))
    assert isinstance(question, Question) and question.positions_M is corruption.positions_M
    assert question.targets.dtype == torch.float32 and float(question.targets[1]) > 0
    assert (question.targets[len(corruption.positions) :] == -100).all()
