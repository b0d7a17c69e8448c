"""What every objective promises; runs on every plug-in that is found, and on the example outside the package."""

import ast
import importlib
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maskwright.batching.pack import pack_sequences
from maskwright.batching.row_stream import RowStream
from maskwright.core.batches import CorruptedBatch, PackedBatch
from maskwright.core.discovery import class_name_of, plug_in_names
from maskwright.core.randomness import torch_generator
from maskwright.core.ranks import Ranks
from maskwright.objectives.base import Objective
from maskwright.training.model import Model
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.watching.held_out_loss import HeldOutLoss


def tensors(value) -> list[torch.Tensor]:
    """Return all tensors of a batch, nested ones included."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in tensors(item)]
    return [tensor for item in getattr(value, "__dict__", {}).values() for tensor in tensors(item)]


def corrupt(objective: Objective, batch: PackedBatch, seed: int = 0) -> CorruptedBatch:
    return objective.corrupt(batch, torch_generator(seed, "contract"), 0.5)


def test_corruption_is_pure(objective, batch):
    before = [tensor.clone() for tensor in tensors(batch)]
    first, second = corrupt(objective, batch), corrupt(objective, batch)
    assert all(torch.equal(one, two) for one, two in zip(tensors(first), tensors(second), strict=True))
    assert all(torch.equal(one, two) for one, two in zip(before, tensors(batch), strict=True))
    other = corrupt(objective, batch, seed=1)
    assert any(not torch.equal(one, two) for one, two in zip(tensors(first), tensors(other), strict=True))


def test_shapes_do_not_depend_on_the_text(objective, completed, batch):
    token_ids_T = batch.token_ids_T.clone()
    is_text_T = objective.is_text(batch)
    token_ids_T[is_text_T] = token_ids_T[is_text_T].flip(0)
    reversed_text = replace(batch, input=replace(batch.input, token_ids_T=token_ids_T))
    shapes = [[tensor.shape for tensor in tensors(completed(each))] for each in (batch, reversed_text)]
    assert shapes[0] == shapes[1]


def test_special_tokens_survive_and_are_never_scored(objective, batch, vocabulary):
    is_special = torch.isin(batch.token_ids_T, torch.tensor(vocabulary.special_ids))
    for seed in range(5):
        result = corrupt(objective, batch, seed)
        assert torch.equal(result.input.token_ids_T[is_special], batch.token_ids_T[is_special])
        for question in result.questions.values():
            assert not is_special[question.positions_M[: int(question.count)]].any()


def test_every_term_is_finite_counted_and_reaches_the_encoder(objective, completed, batch, encoder):
    result = completed(batch)
    terms = objective.loss(encoder, result)
    assert (
        [term.name for term in terms] == list(result.questions) == list(dict.fromkeys(objective.metric_terms.values()))
    )
    declared = {name for term in terms for name in (term.name, *term.metrics)}
    assert declared == set(objective.metric_terms)
    assert all(torch.isfinite(term.total) and int(term.count) > 0 for term in terms)
    sum(term.weight * term.total / term.count for term in terms).backward()
    without = [name for name, parameter in encoder.named_parameters() if parameter.grad is None]
    assert not without, f"no gradient reaches {without}"
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


@pytest.mark.slow
def test_the_loss_is_one_graph_for_all_batches(objective, completed, corpus, encoder):
    torch._dynamo.reset()
    graphs = []

    def counting_backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    loss = torch.compile(lambda each: objective.loss(encoder, each)[0].total, backend=counting_backend, fullgraph=True)
    stream = RowStream(corpus.split("train"), corpus.vocabulary, 32, seed=3)
    for number in range(4):
        each = completed(stream.batch(8 * number, 8), number)
        torch.testing.assert_close(loss(each), objective.loss(encoder, each)[0].total)
    # A micro-batch of a mixture is of one of its parts, each with a graph of its own.
    assert len(graphs) <= len(getattr(objective, "parts", [objective]))


def test_its_held_out_loss_is_the_same_every_time_and_changes_nothing(
    objective, encoder, vocabulary_head, corpus, raw_recipe
):
    """Whatever `begin` and `complete` make the targets of; no strategy learns from it, and no mode changes."""
    section = {"every_steps": 1, "tokens": 256}
    recipe = parse_recipe({**raw_recipe, "phases": [{"sequence_length": 32}], "probes": section}, "test")
    model, measure = Model(encoder, vocabulary_head, objective), HeldOutLoss(recipe, corpus, Ranks())
    model.root().train()
    tensors_before = {name: tensor.clone() for name, tensor in model.root().state_dict().items()}
    random_before = torch.get_rng_state()
    first = measure(model, 0, torch.float32)
    assert set(first) == {"held_out_loss", *(f"held_out_{name}" for name in objective.metric_terms)}
    assert all(math.isfinite(value) for value in first.values()) and first["held_out_loss"] > 0
    objective.after_step(encoder, 1)
    assert measure(model, 0, torch.float32) == first
    assert all(torch.equal(tensor, tensors_before[name]) for name, tensor in model.root().state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_before)
    assert all(part.training for part in model.root().modules())


def test_documents_do_not_see_each_other(objective, vocabulary, encoder):
    """Changing document B leaves document A's states unchanged, masks and all, as evaluation reads them."""
    text = [token for token in range(vocabulary.size) if token not in vocabulary.special_ids]
    generator = torch_generator(0, "documents")
    draw = [torch.randint(len(text), (12,), generator=generator).numpy() for _ in range(3)]
    ids = [[text[index] for index in some] for some in draw]
    ids[0][5] = vocabulary.mask_id
    a_and_b = pack_sequences([ids[0], ids[1]], vocabulary, 32)
    a_and_c = pack_sequences([ids[0], ids[2]], vocabulary, 32)
    assert len(a_and_b.token_ids_T) == 32
    place = (a_and_b.document_ids_S[a_and_b.layout.sequence_index_T.long()] == 0).nonzero().squeeze(1)
    states = []
    for each in (a_and_b, a_and_c):
        states.append(objective.reader(encoder)(each.input, place))
    assert states[0].shape == (len(place), encoder.config.hidden_size)
    assert torch.equal(states[0], states[1])


def test_it_names_its_source(objective):
    assert objective.citation.strip()
    module = importlib.import_module(type(objective).__module__)
    assert "Source:" in (module.__doc__ or "")
    assert type(objective).__doc__


@pytest.mark.parametrize("name", plug_in_names("maskwright.objectives"))
def test_file_name_and_class_name_agree(name):
    module = importlib.import_module(f"maskwright.objectives.{name}")
    classes = [
        node.name for node in ast.parse(Path(module.__file__).read_text()).body if isinstance(node, ast.ClassDef)
    ]
    assert class_name_of(name) in classes
