"""A model of transformers trains from its first weights or from a folder, and comes out as itself."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.integration.conftest import written
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

from maskwright.corpus.corpus import Corpus
from maskwright.encoders import build_encoder
from maskwright.heads.build import build_vocabulary_head

SHAPE = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert": SHAPE,
    "roberta": SHAPE,
    "electra": SHAPE | {"embedding_size": 8},
    "albert": SHAPE | {"embedding_size": 8},
    "deberta": SHAPE | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0},
    "deberta-v2": SHAPE
    | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8, "share_att_key": True}
    | {"position_biased_input": False, "norm_rel_ebd": "layer_norm", "type_vocab_size": 0},
    "modernbert": SHAPE | {"local_attention": 8, "mlp_dropout": 0.1},
    "distilbert": {"n_layers": 2, "dim": 16, "n_heads": 2, "hidden_dim": 24},
    "mpnet": SHAPE,
}


def recipe_of(raw_recipe: dict[str, Any], model_type: str, **changes: Any) -> dict[str, Any]:
    overrides = {"model_type": model_type, **ARCHITECTURES[model_type]}
    return raw_recipe | {
        "encoder": {"family": "hugging_face", "size": None, "overrides": overrides},
        "budget": {"steps": 2},
        "probes": {"every_steps": 2, "tokens": 256, "max_share": None},
        **changes,
    }


def run_record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_two_steps_train_and_are_exported(maskwright, raw_recipe, tmp_path, model_type):
    recipe = written(tmp_path / "recipe.yaml", recipe_of(raw_recipe, model_type))
    said = maskwright("train", recipe, "--run", tmp_path / "run")
    assert said.code == 0, said.err
    record = run_record(tmp_path / "run")
    assert record["engine"]["attention"] == "its own" and not record["engine"]["compiled"]
    assert record["export"]["family"] == "hugging_face"
    assert record["export"]["max_logit_difference"] < 1e-4
    config = AutoConfig.for_model(model_type)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / "model")
    assert type(model.config) is type(config) and type(model).__name__ == record["export"]["architecture"]
    assert model.config.to_dict().items() >= ARCHITECTURES[model_type].items()
    assert record["plan"]["num_parameters"] == model.num_parameters(), "tied weights are counted once"
    weights = load_file(sorted((tmp_path / "run" / "checkpoints").iterdir())[-1] / "model.safetensors")
    assert sum(weight.numel() for weight in weights.values()) == pytest.approx(model.num_parameters(), rel=0.01)
    assert AutoTokenizer.from_pretrained(tmp_path / "run" / "model").mask_token == "[MASK]"
