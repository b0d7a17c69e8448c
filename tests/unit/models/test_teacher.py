"""The teacher: its states beside the encoder's own, that it is frozen, and that it comes back as it was saved."""

import dataclasses

import pytest
import torch

from maskwright.core.errors import CheckpointError, RecipeError
from maskwright.encoders import build_encoder
from maskwright.heads.vocabulary import VocabularyHead
from maskwright.models.teacher import FILE_NAME, Teacher, snapshot
from maskwright.models.trained import TrainedModel

CPU = torch.device("cpu")


@pytest.fixture
def model(encoder, vocabulary_head, vocabulary) -> TrainedModel:
    return snapshot(encoder, vocabulary_head, vocabulary)


def teacher_of(model: TrainedModel, layer: int = -1, dtype: torch.dtype = torch.float32) -> Teacher:
    return Teacher(model, layer, "tiny", CPU, dtype)


def states_by_hand(encoder, batch, num_blocks: int) -> torch.Tensor:
    x_TD = encoder.embed(batch.input)
    x_TD = encoder.run_blocks(x_TD, batch.layout, stop=num_blocks)
    x_TD = encoder.final_norm(x_TD) if num_blocks == encoder.config.num_layers else x_TD
    return x_TD / x_TD.norm(dim=1, keepdim=True)


@pytest.mark.parametrize(("layer", "num_blocks"), [(-1, 2), (2, 2), (-2, 1), (1, 1), (0, 0), (-3, 0)])
def test_states_are_the_layers_scaled_to_norm_1(encoder, model, batch, layer, num_blocks):
    teacher = teacher_of(model, layer)
    assert teacher.layer == num_blocks
    expected = states_by_hand(encoder, batch, num_blocks).detach()
    assert torch.allclose(teacher.states(batch), expected, atol=1e-6)
    positions = torch.tensor([3, 17, 3])
    assert torch.equal(teacher.states(batch, positions), teacher.states(batch)[positions])


@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_that_is_not_there_is_refused(model, layer):
    with pytest.raises(RecipeError, match=f"layer {layer} of an encoder with 2 layers"):
        teacher_of(model, layer)


def test_neither_the_layers_above_nor_the_head_are_run(model, batch):
    teacher = teacher_of(model, 1)

    def forbidden(*_):
        raise AssertionError("computed for nothing")

    for module in (teacher.encoder.blocks[1], teacher.head):
        module.register_forward_pre_hook(forbidden)
    teacher.states(batch)


def test_it_is_frozen_and_does_not_follow_the_model_it_was_made_of(encoder, vocabulary_head, vocabulary, batch):
    model = snapshot(encoder.train(), vocabulary_head, vocabulary)
    teacher = teacher_of(model)
    before = teacher.states(batch)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(1.5)
    assert torch.equal(teacher.states(batch), before)
    assert not before.requires_grad and not teacher.encoder.training
    assert not any(parameter.requires_grad for parameter in teacher.encoder.parameters())
    assert snapshot(encoder, vocabulary_head, vocabulary).sha256 != model.sha256


def test_states_are_float32_of_norm_1_also_where_products_are_not(model, batch):
    narrow = teacher_of(model, dtype=torch.bfloat16).states(batch)
    assert narrow.dtype == torch.float32
    assert torch.allclose(narrow.norm(dim=1), torch.ones(len(narrow)), atol=1e-5)
    assert 1e-6 < float((narrow - teacher_of(model).states(batch)).abs().max()) < 0.05


def test_logits_are_the_whole_models(encoder, vocabulary_head, model, batch):
    positions = torch.tensor([5, 9, 40])
    x_TD = encoder(batch.input)
    expected = vocabulary_head(x_TD, encoder.embedding_weight_VE)[positions].detach()
    assert torch.allclose(teacher_of(model, 1).logits(batch, positions), expected, atol=1e-5)


def test_it_comes_back_as_it_was_saved(tmp_path, model, vocabulary, batch):
    teacher = teacher_of(model, -2)
    teacher.save(tmp_path)
    like = build_encoder("modernbert", None, vars_of(model), vocabulary, max_positions=64, seed=99)
    loaded = Teacher.load(
        tmp_path, TrainedModel(like, VocabularyHead(like.config, seed=99), vocabulary, ""), CPU, torch.float32
    )
    assert (loaded.name, loaded.sha256, loaded.layer) == ("tiny", model.sha256, 1)
    assert torch.equal(loaded.states(batch), teacher.states(batch))
    assert torch.equal(loaded.logits(batch, torch.tensor([7])), teacher.logits(batch, torch.tensor([7])))
    before = (tmp_path / FILE_NAME).read_bytes()
    loaded.save(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def vars_of(model: TrainedModel, **changes: int) -> dict[str, int]:
    names = ("num_layers", "hidden_size", "num_heads", "feed_forward_size")
    return {name: getattr(model.encoder.config, name) for name in names} | changes


def test_what_can_not_be_read_is_refused(tmp_path, model, vocabulary):
    with pytest.raises(CheckpointError, match="does not exist"):
        Teacher.load(tmp_path, model, CPU, torch.float32)
    teacher_of(model).save(tmp_path)
    wider = build_encoder("modernbert", None, vars_of(model, hidden_size=64), vocabulary, max_positions=64, seed=1)
    other = TrainedModel(wider, VocabularyHead(wider.config, seed=1), vocabulary, "")
    with pytest.raises(CheckpointError, match="size mismatch"):
        Teacher.load(tmp_path, other, CPU, torch.float32)
    foreign = dataclasses.replace(model, vocabulary=dataclasses.replace(vocabulary, sha256="f" * 64))
    with pytest.raises(CheckpointError, match="another tokenizer"):
        Teacher.load(tmp_path, foreign, CPU, torch.float32)
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="can't be read"):
        Teacher.load(tmp_path, model, CPU, torch.float32)


def test_text_of_another_tokenizer_is_refused(model, vocabulary):
    teacher = teacher_of(model)
    teacher.require_vocabulary(vocabulary)
    with pytest.raises(RecipeError, match=r"tiny has another tokenizer than the text(.|\n)*same tokenizer"):
        teacher.require_vocabulary(dataclasses.replace(vocabulary, sha256="f" * 64))
