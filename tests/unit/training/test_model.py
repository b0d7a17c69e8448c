"""What a recipe's model is made of: names, frozen parts, one attention for all encoders."""

import pytest
import torch

from maskwright.core.errors import RecipeError
from maskwright.encoders.attention.reference import Reference
from maskwright.training.model import Model, build_models
from maskwright.training.recipe.recipe import parse_recipe


@pytest.fixture
def model_of(raw_recipe, corpus):
    """Return a function from phases to the model that a recipe with them builds for the last of them."""

    def build(*phases: dict[str, object]) -> Model:
        raw = raw_recipe | {"phases": [{"sequence_length": 32, **phase} for phase in phases]}
        return build_models(parse_recipe(raw, "test"), corpus.vocabulary)[-1]

    return build


def test_phases_share_an_encoder_unless_one_changes_it(raw_recipe, corpus):
    phases = [{}, {"objective": "late_mask"}, {"encoder": {"overrides": {"num_layers": 4}}}]
    raw = raw_recipe | {"phases": [{"sequence_length": 32, **phase} for phase in phases]}
    first, second, third = build_models(parse_recipe(raw, "test"), corpus.vocabulary)
    assert first.encoder is second.encoder and first.objective is not second.objective
    assert [len(model.encoder.blocks) for model in (first, third)] == [2, 4]
    assert {name.split(".")[0] for name in second.tensors()} == {"encoder", "vocabulary_head", "objective"}


def test_weights_are_a_function_of_the_seed(model_of):
    one, two = model_of({}).tensors(), model_of({}).tensors()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_every_parameter_has_one_name(model_of):
    model = model_of({"objective": "late_mask"})
    names = [name for name, _ in model.named_parameters()]
    assert len({id(parameter) for _, parameter in model.named_parameters()}) == len(names) == len(set(names))
    assert set(names) <= set(model.tensors())


def test_freezing_is_of_the_parts_that_are_named_and_of_no_others(model_of):
    model = model_of({})
    model.freeze([1])
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith("encoder.blocks.0.")}
    model.freeze(["vocabulary_head"])
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen and all(name.startswith("vocabulary_head.") for name in frozen)
    model.freeze([])
    assert all(parameter.requires_grad for _, parameter in model.named_parameters())


def test_freezing_everything_or_more_blocks_than_there_are_is_refused(model_of):
    model = model_of({})
    with pytest.raises(RecipeError, match="nothing that learns"):
        model.freeze(["encoder", "vocabulary_head"])
    with pytest.raises(RecipeError, match="3 blocks, the encoder has 2"):
        model.freeze([3])


def test_attention_is_chosen_for_every_encoder_inside(model_of):
    model = model_of({"objective": "late_mask"})
    companion = model_of({}).encoder
    model.objective.add_module("companion", companion)
    model.use_attention("reference")
    assert model.encoder.attention is companion.attention is Reference
