"""Which weights learn, and how fast."""

import sys

import pytest
import torch

from maskwright.core.errors import EvaluationError, MissingDependency
from maskwright.evaluation.fine_tuning.adaptation import adapt, parameter_groups
from maskwright.evaluation.fine_tuning.model import FineTunedModel, SequenceHead
from maskwright.evaluation.fine_tuning.settings import FineTuning


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def settings(**values) -> FineTuning:
    return FineTuning.model_validate(values)


def test_all_weights_are_in_one_group_of_matrices_and_one_of_vectors(subject):
    model = FineTunedModel(subject.new_encoder(), SequenceHead(32, 2, 0.0, "first"))
    groups = parameter_groups(model, settings(weight_decay=0.1, learning_rate=1e-3))
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert {parameter.ndim for parameter in groups[1]["params"]} == {1}
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(map(id, model.parameters()))


def test_layer_wise_learning_rates(subject):
    model = FineTunedModel(subject.new_encoder(), SequenceHead(32, 2, 0.0, "first"))
    groups = parameter_groups(model, settings(learning_rate=1.0, layer_decay=0.5))
    rate_of = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    named = dict(model.named_parameters())
    expected = {
        "head.out.weight": 1.0,
        "head.dense.bias": 1.0,
        "encoder.blocks.1.qkv.weight": 0.5,
        "encoder.blocks.0.feed_forward_norm.bias": 0.25,
        "encoder.token_embedding.weight": 0.125,
        "encoder.embedding_norm.weight": 0.125,
    }
    assert {name: rate_of[id(named[name])] for name in expected} == expected


def test_bitfit_trains_biases_only(subject, make_subject):
    encoder = subject.new_encoder()
    adapt(encoder, settings(adapt="bitfit"), generator())
    learning = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    assert learning
    assert all(name.endswith("bias") for name in learning)
    with pytest.raises(EvaluationError, match="has none"):
        adapt(make_subject(family="modernbert").new_encoder(), settings(adapt="bitfit"), generator())


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_lora_begins_as_the_encoder_and_adds_to_every_linear_layer(make_subject, family):
    encoder, plain = (make_subject(family=family).new_encoder() for _ in range(2))
    adapt(encoder, settings(adapt="lora", lora={"rank": 4}), generator())
    learning = {name: parameter for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    num_linear = sum(isinstance(module, torch.nn.Linear) for module in plain.modules())
    assert len(learning) == 2 * num_linear
    assert all(".lora_" in name for name in learning)
    base = {name.replace(".base_layer", ""): value for name, value in encoder.named_parameters()}
    for name, value in plain.named_parameters():
        assert torch.equal(base[name], value), name


def test_lora_draws_from_its_generator_alone(subject):
    weights = []
    for _ in range(2):
        torch.rand(3)
        encoder = subject.new_encoder()
        adapt(encoder, settings(adapt="lora"), generator())
        weights.append(torch.cat([value.flatten() for name, value in encoder.named_parameters() if "lora_A" in name]))
    assert torch.equal(*weights)


def test_lora_without_peft_says_what_to_install(subject, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependency, match=r"pip install 'maskwright\[lora\]'"):
        adapt(subject.new_encoder(), settings(adapt="lora"), generator())
