"""The gradient does not depend on how the global batch is cut into micro-batches."""

import pytest
import torch

from maskwright.core.ranks import Ranks
from maskwright.training.model import build_model
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.step import PhaseModel, Stepper
from maskwright.training.step_batches import StepBatches
from maskwright.training.timeline import Course


def stepper_of(model) -> Stepper:
    phase_model = PhaseModel(model.encoder, model.objective)
    return Stepper(phase_model, torch.device("cpu"), torch.float32, Ranks(), seed=1, compiled=False)


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_terms_are_divided_by_their_counts_over_all_micro_batches(raw_recipe, corpus):
    """Micro-batches of unequal counts weigh by their counts: the mean is of all scored tokens."""
    recipe = parse_recipe(raw_recipe, "test")
    model = build_model(recipe, corpus.vocabulary)
    batches = StepBatches(recipe, corpus, Course((4, 4)), Ranks())(0, model.objective)
    counts = [int(batch.questions["token"].count) for batch in batches]
    loss = stepper_of(model).forward_backward(0, range(2), batches).read()
    together = gradients(model)

    expected = {name: torch.zeros_like(grad) for name, grad in together.items()}
    total = 0.0
    for batch in batches:
        model.root().zero_grad(set_to_none=True)
        (term,) = model.objective.loss(model.encoder, batch)
        term.total.backward()
        total += float(term.total.detach())
        for name, grad in gradients(model).items():
            expected[name] += grad / sum(counts)
    assert loss.loss == pytest.approx(total / sum(counts), rel=1e-6)
    for name, grad in together.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_the_order_of_micro_batches_does_not_matter(raw_recipe, corpus):
    recipe = parse_recipe(raw_recipe, "test")
    model = build_model(recipe, corpus.vocabulary)
    batches = StepBatches(recipe, corpus, Course((4, 4)), Ranks())(0, model.objective)
    losses = []
    for order in ([0, 1], [1, 0]):
        model.root().zero_grad(set_to_none=True)
        losses.append(stepper_of(model).forward_backward(0, order, [batches[number] for number in order]).read().loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
