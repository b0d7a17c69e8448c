"""Training a model of transformers behind our interface is training that model."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from tests.parity.test_foreign_models import ARCHITECTURES
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from maskwright.batching.pack import pack_sequences
from maskwright.core.batches import UNUSED, CorruptedBatch
from maskwright.core.randomness import torch_generator
from maskwright.core.ranks import Ranks
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders import build_config, build_encoder
from maskwright.encoders.families.hugging_face import HuggingFace
from maskwright.encoders.flops import flops_per_token
from maskwright.models.build_head import build_vocabulary_head
from maskwright.objectives.mlm import Mlm
from maskwright.training.step import PhaseModel, Stepper

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
LENGTHS = (5, 30, 9, 38)


def built(model_type: str, seed: int = 1, **options: Any) -> tuple[HuggingFace, Mlm, CorruptedBatch]:
    """Return an encoder as a recipe asks for it, plain MLM, and a corrupted batch of four documents."""
    own = {key: value for key, value in ARCHITECTURES[model_type].items() if not key.endswith("_token_id")}
    shape = SHAPE if model_type != "distilbert" else {"n_layers": 2, "n_heads": 2}
    pad_id = 1 if model_type in ("roberta", "xlm-roberta", "mpnet") else 0
    vocabulary = Vocabulary(100, pad_id, cls_id=2, sep_id=3, mask_id=4, unk_id=None, special_ids=(0, 1), sha256="0")
    encoder = build_encoder(
        "hugging_face", None, {"model_type": model_type} | shape | own | options, vocabulary, 64, seed
    )
    assert isinstance(encoder, HuggingFace)
    objective = Mlm(Mlm.Config(rate=0.4), encoder, vocabulary, build_vocabulary_head(encoder, seed))
    generator = np.random.default_rng(0)
    packed = pack_sequences([generator.integers(5, 100, length) for length in LENGTHS], vocabulary, 64)
    return encoder, objective, objective.corrupt(packed, torch_generator(0, "test"), 0.0)


def padded(batch: CorruptedBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Return input, attention mask and labels [S, L] as a collator for transformers makes them."""
    labels_T = torch.full_like(batch.input.token_ids_T, UNUSED)
    is_used_M = batch.questions["token"].targets != UNUSED
    labels_T[batch.questions["token"].positions_M[is_used_M]] = batch.questions["token"].targets[is_used_M]
    starts = batch.clean.layout.sequence_starts
    places = [torch.arange(int(starts[s]), int(starts[s + 1])) for s in torch.where(batch.clean.document_ids_S >= 0)[0]]
    pad = torch.nn.utils.rnn.pad_sequence
    return (
        pad([batch.input.token_ids_T[place] for place in places], True, int(batch.clean.token_ids_T[-1])),
        pad([torch.ones_like(place) for place in places], True),
        pad([labels_T[place] for place in places], True, UNUSED),
    )


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_loss_and_gradients_of_mlm_are_those_of_the_model_itself(model_type: str) -> None:
    encoder, objective, batch = built(model_type)
    theirs = copy.deepcopy(encoder.whole).eval()
    model = PhaseModel(encoder, objective).eval()
    loss = (
        Stepper(model, torch.device("cpu"), torch.float32, Ranks(), 0, False).forward_backward(0, [0], [batch]).read()
    )
    input_ids_SL, mask_SL, labels_SL = padded(batch)
    their_loss = theirs(input_ids=input_ids_SL, attention_mask=mask_SL, labels=labels_SL).loss
    their_loss.backward()
    assert loss.loss == pytest.approx(their_loss.item(), rel=1e-5)
    ours_by_name = dict(encoder.whole.named_parameters())
    assert len({id(weight) for weight in model.parameters()}) == len(ours_by_name), "all, each once"
    for name, weight in theirs.named_parameters():
        gradient = ours_by_name[name].grad
        assert gradient is not None and weight.grad is not None, name
        torch.testing.assert_close(
            gradient, weight.grad, atol=1e-6, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )
        assert gradient.any(), name


@pytest.mark.parametrize("model_type", ["deberta-v2", "modernbert", "albert"])
def test_bfloat16_and_dropout(model_type: str) -> None:
    """Dropout of the model works while it trains, is a function of the seed, and is off where the model is asked."""
    options = {"mlp_dropout": 0.3} if model_type == "modernbert" else {"hidden_dropout_prob": 0.3}
    encoder, objective, batch = built(model_type, **options)
    model = PhaseModel(encoder, objective)

    def loss(step: int, dtype: torch.dtype = torch.float32) -> float:
        stepper = Stepper(model, torch.device("cpu"), dtype, Ranks(), 7, False)
        return stepper.forward_backward(step, [0], [batch]).read().loss

    model.train()
    assert loss(0) == loss(0) != loss(1)
    model.eval()
    assert loss(0) == loss(1)
    assert loss(0, torch.bfloat16) == pytest.approx(loss(0), rel=0.02)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_weights_are_a_function_of_the_seed_alone(model_type: str) -> None:
    state = torch.get_rng_state()
    first, second, other = (built(model_type, seed)[0].whole.state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())
    assert any(not torch.equal(weight, other[name]) for name, weight in first.items())


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_a_configuration_comes_back_from_its_overrides(model_type: str) -> None:
    config = built(model_type)[0].config
    vocabulary = Vocabulary(90, 0, 5, 6, 7, None, (), "1")
    assert build_config("hugging_face", None, config.overrides(), vocabulary, config.max_positions) == config
    assert config.max_positions == 64


@pytest.mark.parametrize("model_type", ["bert", "albert", "modernbert", "distilbert"])
def test_flops_are_those_of_the_matrices(model_type: str) -> None:
    """Against torch's counter; attention is left out on both sides, and what widens ALBERT's embeddings on ours."""
    encoder, *_ = built(model_type)
    with FlopCounterMode(display=False) as counter:
        encoder.whole(input_ids=torch.full((3, 20), 7)).logits.sum().backward()
    counts = {str(kind): count for kind, count in counter.get_flop_counts()["Global"].items()}
    measured = sum(count for kind, count in counts.items() if kind in ("aten.mm", "aten.addmm")) / 60
    without_attention = flops_per_token(encoder.config, 0, 1.0)
    assert without_attention == pytest.approx(measured, rel=0.035 if model_type == "albert" else 0.005)
