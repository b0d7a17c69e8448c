"""A model of transformers trains from its first weights or from a folder, and comes out as itself."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import Said
from tests.integration.conftest import written
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer, pipeline

from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder
from maskwright.corpus.corpus import Corpus
from maskwright.tokenization.folder import save_tokenizer
from maskwright.training.export_checkpoint import export_run
from maskwright.training.loop import TrainingLoop
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.run import assemble_run

RECIPE = 78
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


@pytest.fixture
def train(maskwright: Callable[..., Said], corpus: Corpus, tmp_path: Path) -> Callable[..., Said]:
    """Return a function that trains a recipe on the prepared corpus, in the folder `run`."""

    def train_it(raw: dict[str, Any], *options: object) -> Said:
        recipe = written(tmp_path / "recipe.yaml", raw)
        return maskwright("train", recipe, "--run", tmp_path / "run", *(options or ("--corpus", corpus.folder)))

    return train_it


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_two_steps_train_and_are_exported(raw_recipe, corpus, tmp_path, model_type):
    folder = RunFolder(tmp_path)
    recipe = parse_recipe(recipe_of(raw_recipe, model_type, probes={}), "test")
    TrainingLoop(assemble_run(recipe, corpus, folder, Ranks(), {})).train()
    export_run(folder.path)
    record = run_record(tmp_path)
    assert record["engine"]["attention"] == "its own" and not record["engine"]["compiled"]
    assert record["export"]["family"] == "hugging_face"
    assert record["export"]["max_logit_difference"] < 1e-4
    model = AutoModelForMaskedLM.from_pretrained(folder.model)
    assert type(model.config) is type(AutoConfig.for_model(model_type))
    assert type(model).__name__ == record["export"]["architecture"]
    values = model.config.to_dict()
    assert {key: values[key] for key in ARCHITECTURES[model_type]} == ARCHITECTURES[model_type]
    assert record["plan"]["num_parameters"] == model.num_parameters(), "tied weights are counted once"
    saved = load_file(sorted(folder.checkpoints.iterdir())[-1] / "model.safetensors")
    assert {name for name in saved if ".blocks." in name}
    assert AutoTokenizer.from_pretrained(folder.model).mask_token == "[MASK]"


def test_it_is_teacher_and_student_of_a_latent_objective(raw_recipe, corpus, tmp_path):
    """It is read layer by layer, copied, kept in a file, and begins anew."""
    dictionary = {"num_atoms": 8, "num_states": 100, "num_tokens": 1000, "num_updates": 4}
    atoms = {"name": "atoms", "layer": -2, "dictionary": dictionary, "coding": {"penalty": 0.01}}
    student = {"name": "mlsm", "terms": [atoms, "token"]}
    phases = [{"sequence_length": 32}, {"objective": student, "weights": "fresh", "sequence_length": 32}]
    folder = RunFolder(tmp_path / "run")
    recipe = parse_recipe(recipe_of(raw_recipe, "roberta", phases=phases, probes={}), "test")
    TrainingLoop(assemble_run(recipe, corpus, folder, Ranks(), {})).train()
    export_run(folder.path)
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert lines[1]["atoms"] > 0 and lines[1]["token"] > 0
    assert run_record(folder.path)["export"]["max_logit_difference"] < 1e-4


def test_the_whole_journey(train, raw_recipe, tmp_path):
    said = train(recipe_of(raw_recipe, "electra"))
    assert said.code == 0, said.err
    assert "attention its own, not compiled" in said.err + said.out
    assert run_record(tmp_path / "run")["status"] == "finished"
    fill = pipeline("fill-mask", str(tmp_path / "run" / "model"))
    assert 0 < fill("the court [MASK] appeal", top_k=1)[0]["score"] <= 1


@pytest.fixture
def theirs(corpus: Corpus, tmp_path: Path) -> Path:
    """A RoBERTa with dropout, trained elsewhere, with the corpus's tokenizer."""
    ids = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
    config = AutoConfig.for_model("roberta", **SHAPE, **ids, vocab_size=128, max_position_embeddings=50)
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path / "theirs")
    save_tokenizer(corpus.load_tokenizer(), tmp_path / "theirs")
    return tmp_path / "theirs"


def test_a_run_goes_on_with_a_folder_and_needs_it_no_more(train, maskwright, raw_recipe, theirs, tmp_path):
    keep_all = {"every_steps": 1, "every_minutes": None, "keep_last": 9}
    said = train(raw_recipe | {"budget": {"steps": 2}, "checkpoints": keep_all}, "--from", theirs)
    assert said.code == 0, said.err
    assert "computed by transformers' own RobertaForMaskedLM" in said.err + said.out
    before = load_file(theirs / "model.safetensors")
    run = tmp_path / "run"
    begun = load_file(run / "checkpoints" / "step-000000" / "model.safetensors")
    name = "attention.self.query.weight"
    assert torch.equal(begun[f"encoder.blocks.0.{name}"], before[f"roberta.encoder.layer.0.{name}"])
    assert torch.equal(begun["vocabulary_head.model.lm_head.dense.weight"], before["lm_head.dense.weight"])
    encoder = run_record(run)["recipe"]["encoder"]
    assert (encoder["family"], encoder["max_positions"]) == ("hugging_face", 48)
    assert encoder["overrides"]["hidden_dropout_prob"] == 0.1

    shutil.rmtree(theirs)
    for step in (0, 2):
        assert maskwright("export", run, "--step", step, "--out", tmp_path / f"after-{step}").code == 0
    config = AutoConfig.from_pretrained(tmp_path / "after-0")
    assert (config.vocab_size, config.max_position_embeddings, config.pad_token_id) == (128, 50, 1)
    exported = load_file(tmp_path / "after-0" / "model.safetensors")
    assert exported.keys() == before.keys()
    assert all(torch.equal(exported[key], weight) for key, weight in before.items())
    assert not torch.equal(
        load_file(tmp_path / "after-2" / "model.safetensors")["lm_head.bias"], before["lm_head.bias"]
    )


def test_a_folder_that_does_not_fit_is_refused(train, raw_recipe, theirs):
    phases = [{"sequence_length": 64}]
    said = train(raw_recipe | {"phases": phases}, "--from", theirs)
    assert said.code == RECIPE and "48 is less than the longest sequence, 64" in said.err
    config = theirs / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"is_decoder": True}))
    said = train(raw_recipe, "--from", theirs)
    assert "'roberta' is no encoder with a masked language model's head (is_decoder is true)" in said.err
    assert len(said.err.splitlines()) <= 6


def test_a_model_with_fewer_tokens_than_the_tokenizer_is_refused(train, raw_recipe, corpus, tmp_path):
    config = AutoConfig.for_model("roberta", **SHAPE, vocab_size=20, max_position_embeddings=50)
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path / "theirs")
    save_tokenizer(corpus.load_tokenizer(), tmp_path / "theirs")
    said = train(raw_recipe, "--from", tmp_path / "theirs")
    assert f"it has 20 tokens, the tokenizer {corpus.vocabulary.size}" in said.err


@pytest.mark.parametrize("engine", [{"compile": "on"}, {"attention": "padded"}])
def test_what_our_engine_can_not_do_for_it_is_refused(train, raw_recipe, engine):
    said = train(recipe_of(raw_recipe, "bert", engine={"device": "cpu", **engine}))
    (key,) = engine
    assert said.code == RECIPE and f"engine.{key}: " in said.err and "leave auto" in said.err


def test_a_plan_prices_it(maskwright, raw_recipe, tmp_path):
    said = maskwright("plan", written(tmp_path / "recipe.yaml", recipe_of(raw_recipe, "albert")))
    assert said.code == 0, said.err
    assert "hugging_face albert" in said.out
    assert "MFLOP a token" in said.out
