"""Dictionaries and profiles on the command line: of a run, of a model folder, and of a run that was taught by atoms."""

import re
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tests.docs.conftest import ROOT, snippets

from maskwright.core.records.run import RunFolder
from maskwright.core.records.semantics import ATOMS, AtomsRecord
from maskwright.evaluation.scorer import MaskedLanguageModel
from maskwright.pipeline.latent_student import LatentStudent
from maskwright.semantics.describe.profiles import marked_words, tokens_of
from maskwright.semantics.dictionary import FILE_NAME, Dictionary

SIZES = ("--atoms", 24, "--states", 600, "--tokens", 1500, "--updates", 6)
TOLD = "the [court] heard many people"
TOY = {"num_atoms": 24, "num_states": 600, "num_tokens": 1500, "num_updates": 6}
TEACHER = {"objective": {"name": "mlm"}, "sequence_length": 32}
MLSM = {"name": "mlsm", "terms": [{"name": "atoms", "dictionary": TOY}, "token"]}
STUDENT = {"objective": MLSM, "sequence_length": 32, "weights": "fresh"}


@pytest.fixture(scope="module")
def home(tmp_path_factory, text_file, maskwright) -> Path:
    """A folder with a run of two phases, teacher and student, and a dictionary of its model."""
    folder = tmp_path_factory.mktemp("home")
    recipe = {
        "name": "taught",
        "data": {"data": str(text_file), "held_out_fraction": 0.1},
        "tokenizer": {"vocabulary_size": 120},
        "encoder": {
            "size": None,
            "overrides": {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 48},
        },
        "budget": {"steps": 8},
        "phases": [TEACHER, STUDENT],
        "batch": {"tokens": 256, "micro_batch_tokens": 256},
        "engine": {"device": "cpu", "dtype": "float32", "compile": "off"},
        "probes": {"num_probes": 1, "tokens": 256},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    trained = maskwright("train", folder / "recipe.yaml", "--run", folder / "run")
    assert trained.code == 0, trained.err
    made = maskwright("dictionary", folder / "run", *SIZES, "--lambda", 0.02, "--out", folder / "dictionary")
    assert made.code == 0, made.err
    (folder / "said.txt").write_text(made.out)
    return folder


def test_a_dictionary_is_made_and_summed_up(home):
    said = (home / "said.txt").read_text()
    record = AtomsRecord.read(home / "dictionary" / ATOMS)
    for expected in ("dead atoms", "relative duality gap", "KKT violation", "largest eigenvalue", "report.html"):
        assert expected in said
    assert f"{record.coding['mean_nonzeros']:.1f} on average" in said
    assert any(atom.name in said for atom in record.atoms)
    assert "24 latent atoms" in (home / "dictionary" / "report.html").read_text()
    provenance = Dictionary.load(home / "dictionary").provenance
    assert provenance.teacher == str(home / "run")
    assert provenance.penalty == 0.02


def test_of_a_model_folder_the_text_is_prepared_with_its_own_tokenizer(home, text_file, tmp_path, maskwright):
    made = maskwright(
        "dictionary", home / "run" / "model", "--data", text_file, *SIZES, "--layer", 1, "--out", tmp_path / "d"
    )
    assert made.code == 0, made.err
    assert Dictionary.load(tmp_path / "d").provenance.layer == 1
    again = maskwright(
        "dictionary", home / "run" / "model", "--data", text_file, *SIZES, "--layer", 1, "--out", tmp_path / "d"
    )
    assert again.out == made.out
    other = maskwright("dictionary", home / "run" / "model", "--data", text_file, *SIZES, "--out", tmp_path / "d")
    assert other.code == 66
    assert "layer is 1, not 2" in other.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--atoms", 1), "a dictionary of 1 atoms"),
        (("--lambda", 0), "--lambda 0.0"),
        (("--lambda", 5), "every code is zero"),
        (("--layer", 3), "layer 3 of an encoder with 2 layers"),
        (("--sequence-length", 4096), "--sequence-length 4096"),
        (("--atoms", 70_000, "--states", 80_000, "--tokens", 80_000), "at most 65,536"),
        (("--atoms", 40_000, "--states", 50_000, "--tokens", 50_000), "tokens to learn 40,000 atoms from"),
    ],
)
def test_what_cannot_be_learned_is_said(home, tmp_path, maskwright, arguments, named):
    said = maskwright("dictionary", home / "run", *SIZES, *arguments, "--out", tmp_path / "d")
    assert said.code in (65, 78)
    assert named in said.err
    assert said.err.count("\n") <= 6


def test_the_documentation_reads_a_dictionary(home, tmp_path, monkeypatch, capsys):
    (snippet,) = (each for each in snippets(ROOT / "docs" / "semantics.md") if each.mark == "semantics")
    (tmp_path / "page.py").write_text(snippet.text)
    monkeypatch.chdir(home)
    runpy.run_path(str(tmp_path / "page.py"))
    assert capsys.readouterr().out


def test_a_model_folder_without_text_is_refused(home, tmp_path, maskwright):
    said = maskwright("dictionary", home / "run" / "model", "--out", tmp_path / "d")
    assert said.code == 78
    assert "--data" in said.err


def test_profiles_stand_side_by_side(home, maskwright):
    said = maskwright("profile", home / "dictionary", TOLD, "grain lived by the [river]", "--top", 20)
    assert said.code == 0, said.err
    assert said.out.count("█") > 4
    assert "◆" in said.out
    assert "in more than one of the profiles" in said.out
    assert "predicts" not in said.out
    alone = maskwright("profile", home / "dictionary", TOLD, "--top", 3, "--contexts", 0)
    assert len(re.findall(r"^ +\d+%.*█", alone.out, re.MULTILINE)) == 3


def test_of_a_run_the_student_is_heard_too(home, maskwright):
    said = maskwright("profile", home / "run", TOLD)
    assert said.code == 0, said.err
    assert "masked, the student predicts" in said.out


def test_the_student_predicts_as_its_head_says(home):
    """Beside the exported encoder, run by another path, and the head's weights in the checkpoint."""
    student = LatentStudent.of_run(home / "run")
    model = MaskedLanguageModel.from_folder(home / "run" / "model", device=torch.device("cpu"))
    (word,) = marked_words("the court heard [mountains] in winter")
    tokens = tokens_of(word, model.tokenizer, 60)
    profile = student.profile(tokens, word.context, 4)
    ids = [model.vocabulary.cls_id, *tokens.token_ids, model.vocabulary.sep_id]
    for place in tokens.positions:
        ids[place + 1] = model.vocabulary.mask_id
    from transformers import AutoModel

    with torch.no_grad():
        states = AutoModel.from_pretrained(home / "run" / "model")(torch.tensor([ids])).last_hidden_state[0]
        logits = student.head(states[torch.from_numpy(tokens.positions + 1)])
    shares = logits.softmax(1).mean(0)
    order = shares.argsort(descending=True)[:4]
    assert [entry.atom for entry in profile.atoms] == order.tolist()
    assert np.allclose([entry.weight for entry in profile.atoms], shares[order], atol=1e-5)


def test_the_run_has_its_atoms_and_its_report_shows_them(home):
    folder = RunFolder(home / "run").phase(1) / "dictionary"
    assert AtomsRecord.read(folder / ATOMS).dictionary_sha256 == Dictionary.load(folder).sha256
    report = RunFolder(home / "run").report.read_text()
    assert 'id="semantics"' in report
    assert "Student agrees with teacher" in report


def test_what_cannot_be_profiled_is_said(home, text_file, tmp_path, maskwright):
    plain = {"name": "plain", "phases": [TEACHER]}
    for arguments, code, named in (
        ((home / "dictionary", "no brackets"), 78, "is in brackets"),
        ((home / "dictionary", "the [ ]"), 78, "no word in the brackets"),
        ((home / "dictionary", TOLD, "--top", 0), 78, "--top 0"),
        ((home / "nothing", TOLD), 66, "does not exist"),
        ((home, TOLD), 66, "holds no run"),
        ((home / "run", TOLD, "--model", home / "run"), 78, "--model with a run"),
        ((home / "dictionary", TOLD, "--model", home / "nowhere"), 76, "say where it is: --model"),
    ):
        said = maskwright("profile", *arguments)
        assert (said.code, named in said.err) == (code, True), said.err
    recipe = yaml.safe_load((home / "recipe.yaml").read_text()) | plain
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    assert (
        maskwright("train", tmp_path / "plain.yaml", "--run", tmp_path / "plain", "--set", "budget.steps=2").code == 0
    )
    said = maskwright("profile", tmp_path / "plain", TOLD)
    assert said.code == 78
    assert "has no atoms that were described in phase 1" in said.err
    said = maskwright("profile", home / "dictionary", TOLD, "--model", tmp_path / "plain")
    assert said.code == 66
    assert "has other weights" in said.err


def test_a_description_of_another_dictionary_is_refused(home, tmp_path, maskwright):
    shutil.copytree(home / "dictionary", tmp_path / "d")
    shutil.copy(RunFolder(home / "run").phase(1) / "dictionary" / FILE_NAME, tmp_path / "d" / FILE_NAME)
    said = maskwright("profile", tmp_path / "d", TOLD, "--model", home / "run")
    assert said.code == 66
