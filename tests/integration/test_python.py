"""Maskwright from Python: the verbs as functions, and the notebook."""

import ast
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import maskwright
from maskwright.core.errors import EvaluationError, RecipeError
from maskwright.training.recipe.choose import Choice
from maskwright.training.recipe.recipe import parse_recipe

NOTEBOOK = Path(__file__).parents[2] / "examples" / "python_api.ipynb"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    """Its cells one after the other, as a kernel would run them; the last expression of a cell is only displayed."""
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    script = tmp_path / "notebook.py"
    script.write_text("\n".join("".join(cell["source"]) for cell in cells))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "notebook" / "report.html").exists()


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, maskwright; print(sorted({'torch', 'numpy', 'pydantic', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert {"train", "evaluate", "compare", "fill", "prepare", "report"} <= set(dir(maskwright))


def test_editors_are_told_of_every_function():
    stub = ast.parse(Path(maskwright.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imported = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    assert {node.names[0].name: node.module for node in imported} == maskwright.FUNCTIONS


def test_a_mapping_an_object_and_a_thread(raw_recipe, tmp_path):
    raw = raw_recipe | {"budget": {"steps": 2}, "phases": raw_recipe["phases"][:1], "probes": {}}
    first = maskwright.train(raw, run=tmp_path / "mapping")
    assert first.status == "finished" and first.result is not None and first.result.step == 2
    second = []
    thread = threading.Thread(
        target=lambda: second.append(maskwright.train(parse_recipe(raw, "test"), run=tmp_path / "object"))
    )
    thread.start()
    thread.join()
    assert second[0].result.final_loss == first.result.final_loss
    records = maskwright.evaluate(tmp_path / "mapping", tasks=["word_order"], set={"word_order.num_pairs": 20})
    assert [record.task for record in records] == ["word_order"]
    assert maskwright.train(run=tmp_path / "mapping", resume=True).status == "finished"
    assert maskwright.report(tmp_path / "mapping")[0].exists()
    assert maskwright.export(tmp_path / "mapping", out=tmp_path / "model") == tmp_path / "model"


def test_without_a_recipe_one_is_chosen_by_text_and_hours(raw_recipe, tmp_path, monkeypatch, capsys):
    """What is chosen is planned and saved; trained is a smaller one in its place."""
    text, saved = raw_recipe["data"]["data"], tmp_path / "chosen.yaml"
    rows = dict(maskwright.plan(data=text, hours=2, save=saved))
    assert rows["encoder"].startswith("modernbert") and "FLOPs" in rows["hours"] and rows["recipe"] == str(saved)
    assert maskwright.plan(saved)[0][0] == "encoder"
    with pytest.raises(RecipeError, match="there already"):
        maskwright.plan(data=text, hours=2, save=saved)
    small = raw_recipe | {"budget": {"steps": 2}, "phases": raw_recipe["phases"][:1], "probes": {}}
    choice = Choice(small, [("why", "because of the hours")])
    monkeypatch.setattr("maskwright.pipeline.chosen_recipe.chosen_recipe", lambda *_: choice)
    assert maskwright.train(data=text, hours=2, run=tmp_path / "run").status == "finished"
    assert "because of the hours" in capsys.readouterr().out


def test_hours_take_the_place_of_a_recipe_s_budget(raw_recipe, tmp_path):
    record = maskwright.train(raw_recipe | {"probes": {}}, hours=0.001, run=tmp_path / "run")
    assert record.recipe["budget"]["hours"] == 0.001 and record.recipe["budget"]["steps"] is None


def test_mistakes_are_typed_errors(raw_recipe, tmp_path):
    with pytest.raises(RecipeError, match="did you mean 'optimizer'"):
        maskwright.train(raw_recipe | {"optimiser": {}}, run=tmp_path / "run")
    with pytest.raises(RecipeError, match="no recipe was named"):
        maskwright.train()
    with pytest.raises(EvaluationError, match="did you mean 'tasks'"):
        maskwright.evaluate(tmp_path, task="blimp")
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = maskwright.trian
