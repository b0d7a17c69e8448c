"""The Python in the documentation runs."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import yaml
from tests.contracts import test_objectives as contract
from tests.docs.conftest import PAGES, ROOT, name_of, snippets
from tests.docs.test_recipes import written_files

from maskwright.cli import main as cli
from maskwright.core.randomness import torch_generator
from maskwright.training.recipe.recipe import parse_recipe

PAGES_THAT_RUN = [page for page in PAGES if any(snippet.mark == "runs" for snippet in snippets(page))]
TUTORIAL = ROOT / "docs" / "add_an_objective.md"
OBJECTIVES = [
    (ROOT / "CONTRIBUTING.md", {"name": "growing:Growing"}),
    (TUTORIAL, {"name": "half_causal:HalfCausal"}),
    (TUTORIAL, {"name": "mlm", "strategy": {"name": "blocks:Blocks", "block_length": 3}}),
    (TUTORIAL, {"name": "mlm", "terms": ["token", {"name": "word_begins:WordBegins", "weight": 0.5}]}),
    (TUTORIAL, {"name": "late_mask", "terms": ["word_begins:WordBegins", "token"]}),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory, text_file: Path) -> Path:
    """A folder as the pages suppose it: texts, a recipe, and a run that was made of them."""
    from maskwright.pipeline.train import train

    folder = tmp_path_factory.mktemp("home")
    recipe = {
        "name": "mine",
        "data": {"data": str(text_file), "held_out_fraction": 0.1},
        "tokenizer": {"vocabulary_size": 120},
        "encoder": {
            "size": None,
            "overrides": {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 48},
        },
        "budget": {"steps": 4},
        "phases": [{"sequence_length": 32}],
        "batch": {"tokens": 256, "micro_batch_tokens": 256},
        "engine": {"device": "cpu", "dtype": "float32", "compile": "off"},
        "probes": {"num_probes": 1, "tokens": 256},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    (folder / "recipes").mkdir()
    (folder / "recipes" / "small.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    (folder / "my_texts").mkdir()
    (folder / "my_texts" / "mine.txt").write_bytes(text_file.read_bytes())
    train(path, run=folder / "runs" / "mine")
    return folder


def test_pages_that_run_are_found():
    named = ("journey", "late_mask", "optimizers", "python", "sparse_coding")
    pages = ["README.md", *(f"docs/{name}.md" for name in named)]
    assert [name_of(page) for page in PAGES_THAT_RUN] == pages


@pytest.mark.parametrize("page", PAGES_THAT_RUN, ids=name_of)
def test_the_snippets_of_a_page_run_one_after_the_other(page, home, tmp_path, monkeypatch, capsys):
    script = tmp_path / "page.py"
    parts = [snippet.text for snippet in snippets(page) if snippet.mark == "runs"]
    script.write_text("\n".join(parts), encoding="utf-8")
    monkeypatch.chdir(home)
    runpy.run_path(str(script))
    assert capsys.readouterr().out


def test_filling_a_mask_as_the_readme_does(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "argv", ["maskwright", "fill", "runs/mine", "The court [MASK] the appeal."])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    assert "%" in capsys.readouterr().out


def test_the_paths_in_a_run_folder_are_those_that_are_listed(home):
    run = home / "runs" / "mine"
    tree = (ROOT / "docs" / "journey.md").read_text(encoding="utf-8").partition("  mine/\n")[2].partition("```")[0]
    listed = {line.split()[0].rstrip("/") for line in tree.splitlines()}
    assert {path.name for path in run.iterdir() if not path.name.startswith(".")} == listed
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize(("page", "raw"), OBJECTIVES, ids=["ten_lines", "objective", "strategy", "term", "late_term"])
def test_the_objectives_on_the_pages_keep_the_contract(
    page, raw, tmp_path, monkeypatch, batch, encoder, vocabulary, vocabulary_head, raw_recipe
):
    written_files(page, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    recipe = parse_recipe({**raw_recipe, "phases": [{"objective": raw, "sequence_length": 16}]}, "test")
    chosen = recipe.phases[0].objective
    objective = chosen.plug_in(chosen.options, encoder, vocabulary, vocabulary_head)
    objective.initialize(torch_generator(0, "test"))
    contract.test_corruption_is_pure(objective, batch)

    def completed(each):
        return contract.corrupt(objective, each)

    contract.test_shapes_do_not_depend_on_the_text(objective, completed, batch)
    contract.test_special_tokens_survive_and_are_never_scored(objective, batch, vocabulary)
    contract.test_every_term_is_finite_counted_and_reaches_the_encoder(objective, completed, batch, encoder)
    contract.test_it_names_its_source(objective)
