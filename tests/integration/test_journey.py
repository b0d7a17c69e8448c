"""The whole journey through the command line: text in, encoder out, and what people do with it next."""

import gzip
import json
import lzma
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import raw_record
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

from maskwright.core.errors import CheckpointError
from maskwright.training.checkpoint import Checkpoints

REPOSITORY = Path(__file__).parents[2]

HUNGARIAN = [
    "A bíróság a fellebbezést elutasította, és a kérelmezőt kötelezte a költségek megfizetésére.",
    "Az öreg hajós minden este kiült a Tisza partjára, és nézte a lassan úszó uszályokat.",
    "Télen a hegyek alatti városokba szánon vitték a szenet meg a gabonát.",
    "Senki sem tudta, mikor érkezik meg a levél, amelyre évek óta vártak.",
]


def test_every_stage_left_its_result(finished):
    record = json.loads((finished / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["export"]["max_logit_difference"] < 1e-4
    scores = json.loads((finished / "evaluation" / "held_out.json").read_text())["scores"]
    assert 0 < scores["cross_entropy"] < 10
    assert "<html" in (finished / "report.html").read_text()
    assert (finished / "model" / "README.md").read_text().startswith("---\n")
    assert len((finished / "metrics.jsonl").read_text().splitlines()) == 12
    assert [path.name for path in finished.rglob(".tmp-*")] == []


def test_transformers_loads_the_model(finished):
    model = AutoModelForMaskedLM.from_pretrained(finished / "model")
    tokenizer = AutoTokenizer.from_pretrained(finished / "model")
    fill = pipeline("fill-mask", model=model, tokenizer=tokenizer, top_k=3)
    assert len(fill(f"The court {tokenizer.mask_token} the appeal.")) == 3


def test_the_stages_run_alone(maskwright, finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "model")
    (run / "report.html").unlink()
    assert "export it: maskwright export" in maskwright("fill", run, "The [MASK].").err
    assert maskwright("export", run).out.strip() == str(run / "model")
    assert (
        load_file(run / "model" / "model.safetensors").keys() == load_file(finished / "model/model.safetensors").keys()
    )
    assert "%" in maskwright("fill", run, "The court [MASK] the appeal.").out
    assert "cross entropy" in maskwright("evaluate", run).out
    assert maskwright("report", run).code == 0
    assert (run / "report.html").exists()
    assert "every checksum holds" in maskwright("doctor", run).out
    assert maskwright("export", run, "--best", "--out", tmp_path / "best").code == 0
    assert (tmp_path / "best" / "config.json").exists()


def test_a_plan_says_what_a_recipe_costs(maskwright, recipe):
    said = maskwright("plan", recipe)
    for part in ("parameters", "FLOPs", "tokens/s", "predicted time", "memory", "disk"):
        assert part in said.out


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("objectives", "mlm"),
        ("families", "modernbert"),
        ("sources", "docstrings"),
        ("tasks", "held_out"),
        ("exporters", "bert"),
    ],
)
def test_plug_ins_are_listed(maskwright, kind, name):
    assert re.search(rf"^{name} ", maskwright("list", kind).out, re.MULTILINE)


def test_a_prepared_corpus_is_found_again(maskwright, recipe, tmp_path):
    assert maskwright("train", recipe, "--run", tmp_path / "first").code == 0
    said = maskwright("train", recipe, "--run", tmp_path / "second", "--set", "optimizer.learning_rate=2e-3")
    assert said.code == 0
    assert "training a wordpiece tokenizer" not in said.err
    assert len(list((tmp_path / "corpora").glob("*/manifest.json"))) == 1


def test_text_prepared_again_continues_a_run(maskwright, recipe, tmp_path):
    run = tmp_path / "run"
    assert maskwright("train", recipe, "--run", run).code == 0
    corpus = Path(json.loads((run / "run.json").read_text())["corpus"])
    shutil.rmtree(corpus)
    said = maskwright("prepare", recipe, "--out", tmp_path / "corpora")
    assert Path(said.out.strip()) == corpus
    assert maskwright("export", run).code == 0


def test_a_run_that_died_while_it_was_finished_is_finished_by_resuming(maskwright, finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "report.html").unlink()
    assert maskwright("train", "--run", run, "--resume").code == 0
    assert (run / "report.html").exists()
    said = maskwright("train", "--run", run, "--resume")
    assert said.code == 0
    assert "finished already" in said.err


# --- continuing from a model --------------------------------------------------------------------------------------


def test_training_continues_from_a_model(maskwright, recipe, finished, tmp_path):
    run = tmp_path / "run"
    keep_all = ["--set", "checkpoints.keep_last=99"]
    said = maskwright("train", recipe, "--from", finished / "model", "--run", run, *keep_all)
    assert said.code == 0, said.err
    before = load_file(finished / "checkpoints" / "step-000012" / "model.safetensors")
    begun = load_file(run / "checkpoints" / "step-000000" / "model.safetensors")
    assert set(begun) == set(before)
    for name, tensor in begun.items():
        assert torch.equal(tensor, before[name]), name
    ended = load_file(run / "checkpoints" / "step-000012" / "model.safetensors")
    assert any(not torch.equal(tensor, ended[name]) for name, tensor in begun.items())

    # Killed before its first checkpoint but the one it began with, it goes on to the same end.
    for path in (run / "checkpoints").iterdir():
        if path.name != "step-000000":
            shutil.rmtree(path)
    record = run / "run.json"
    record.write_text(json.dumps({**raw_record(record), "status": "running"}))
    assert maskwright("train", "--run", run, "--resume").code == 0
    again = load_file(run / "checkpoints" / "step-000012" / "model.safetensors")
    for name, tensor in ended.items():
        assert torch.equal(tensor, again[name]), name

    # Without that one it does not go on from random weights.
    shutil.rmtree(run / "checkpoints")
    record.write_text(json.dumps({**raw_record(record), "status": "running"}))
    said = maskwright("train", "--run", run, "--resume")
    assert said.code == CheckpointError.exit_code and "began with the weights of another model" in said.err


def test_training_continues_from_a_run_folder_as_from_its_model(maskwright, recipe, finished, tmp_path):
    assert maskwright("train", recipe, "--from", finished, "--run", tmp_path / "run").code == 0
    assert Checkpoints(tmp_path / "run" / "checkpoints", 2, True).steps()[-1] == 12


# --- the user's own -----------------------------------------------------------------------------------------------


def test_an_objective_of_ones_own_needs_no_edit_in_the_package(maskwright, recipe, tmp_path):
    shutil.copy(REPOSITORY / "examples" / "own_objective" / "confident_mlm.py", tmp_path)
    settings = ["--set", "phases.0.objective={name: 'confident_mlm:ConfidentMlm', rate: 0.2}"]
    run = tmp_path / "run"
    said = maskwright("train", recipe, "--run", run, *settings)
    assert said.code == 0, said.err
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert "Confidence" in lines[0]
    assert "Pereyra" in (run / "report.html").read_text()
    assert maskwright("export", run).code == 0


def test_compressed_hungarian_text_in_folders_with_strange_names(maskwright, recipe, tmp_path, monkeypatch):
    """Relative paths, spaces, letters beyond ASCII and both compressions."""
    home = tmp_path / "árvíztűrő tükörfúrógép [1]"
    (home / "szövegek").mkdir(parents=True)
    text = "\n\n".join(f"{number}. {sentence}" for number in range(60) for sentence in HUNGARIAN).encode()
    (home / "szövegek" / "első kötet.txt.gz").write_bytes(gzip.compress(text))
    (home / "szövegek" / "második kötet.txt.xz").write_bytes(lzma.compress(text[::1] + "\n\nVége.".encode()))
    shutil.copy(recipe, home / "recept.yaml")
    monkeypatch.chdir(home)
    settings = ["--data", "szövegek/*.txt.*", "--set", "data.documents=paragraph"]
    said = maskwright("train", "recept.yaml", "--run", "futások/első futás", *settings)
    assert said.code == 0, said.err
    run = home / "futások" / "első futás"
    record = json.loads((run / "run.json").read_text())
    manifest = json.loads((Path(record["corpus"]) / "manifest.json").read_text())
    assert sum(split["num_documents"] for split in manifest["splits"].values()) == 2 * 60 * len(HUNGARIAN) + 1
    assert maskwright("train", "--run", "futások/első futás", "--resume").code == 0
    monkeypatch.chdir(tmp_path)  # a run can be looked at from anywhere
    assert "%" in maskwright("fill", run, "A bíróság a [MASK] elutasította.").out
    assert maskwright("evaluate", run).code == 0
