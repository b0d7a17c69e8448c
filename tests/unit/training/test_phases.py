"""How a phase begins: what its objective is given, and fresh weights."""

import pytest
import torch

from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder
from maskwright.optim.optimizers import Optimizers
from maskwright.training.model import build_model
from maskwright.training.phases import is_prepared, phase_start, renew_weights
from maskwright.training.recipe.recipe import Recipe, parse_recipe
from maskwright.training.timeline import Course


@pytest.fixture
def recipe(raw_recipe) -> Recipe:
    adaptive = {"name": "mlm", "strategy": {"name": "adaptive", "refresh_steps": 3}}
    phases = [{"sequence_length": 16}, {"sequence_length": 32, "objective": adaptive}, {"sequence_length": 32}]
    phases[2]["weights"] = "fresh"
    return parse_recipe(raw_recipe | {"phases": phases}, "test")


@pytest.mark.parametrize(("step", "phase", "was_begun"), [(0, 0, False), (3, 0, True), (4, 1, False), (11, 2, True)])
def test_an_objective_is_told_its_phase_and_whether_it_was_begun(recipe, corpus, tmp_path, step, phase, was_begun):
    course, folder = Course((4, 4, 4)), RunFolder(tmp_path)
    start = phase_start(recipe, folder, corpus, course, step, torch.device("cpu"), torch.float32, Ranks())
    assert (start.folder, start.num_steps, start.was_begun) == (folder.phase(phase), 4, was_begun)
    assert start.sequence_length == recipe.phases[phase].sequence_length


def test_a_checkpoint_belongs_before_a_phase_that_makes_something(recipe, corpus):
    model = build_model(recipe, corpus.vocabulary, None)
    assert [is_prepared(recipe, model, phase) for phase in range(3)] == [False, True, True]


def test_fresh_weights_are_a_function_of_seed_and_phase_and_forget_past_updates(recipe, corpus):
    first, second = (build_model(recipe, corpus.vocabulary, None) for _ in range(2))
    before = {name: tensor.clone() for name, tensor in first.tensors().items()}
    optimizers = Optimizers(first.root(), recipe.optimizer)
    for _, parameter in first.named_parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizers.step(1e-2)
    assert optimizers.state_tensors()
    renew_weights(recipe, corpus, first, optimizers, 2)
    renew_weights(recipe, corpus, second, Optimizers(second.root(), recipe.optimizer), 2)
    assert not optimizers.state_tensors()
    ours = {name: tensor for name, tensor in first.tensors().items() if name.startswith(("encoder", "vocabulary_head"))}
    assert all(torch.equal(tensor, second.tensors()[name]) for name, tensor in ours.items())
    name = "encoder.token_embedding.weight"
    assert not torch.equal(ours[name], before[name]), "not those of the first phase again"
