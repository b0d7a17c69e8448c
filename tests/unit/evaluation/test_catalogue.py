"""Names of tasks and suites, and YAML files of one's own."""

from pathlib import Path

import pytest

from maskwright.core.errors import RecipeError
from maskwright.evaluation.catalogue import (
    build_task,
    find_tasks,
    known_names,
    shipped_suites,
    shipped_tasks,
)

OWN = "kind: classification\ntitle: My task\ndata: {train: train.csv, test: test.csv}\n"


@pytest.fixture
def write(tmp_path: Path):
    """Return a function that writes a YAML file and gives its path."""

    def written(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return written


def test_every_name_that_is_known_can_be_built():
    names = known_names()
    tasks = find_tasks(names, {})
    assert {"glue", "superglue", "msgs", "babylm", "cola", "squad", "held_out"} <= set(names)
    assert {"classification", "regression"}.isdisjoint(names)  # they need data to be named
    assert {task.name for task in tasks} >= {shipped.name for shipped in shipped_tasks()}


def test_suites_hold_the_published_tables():
    members = {suite.name: suite.about.split(", ") for suite in shipped_suites()}
    assert {name: len(tasks) for name, tasks in members.items() if name in ("glue", "superglue", "msgs", "babylm")} == {
        "glue": 10,
        "superglue": 6,
        "msgs": 11,
        "babylm": 11,
    }
    titles = [task.title for task in find_tasks(["babylm"], {})]
    assert titles == ["CoLA", "SST-2", "MRPC", "QQP", "MNLI", "MNLI-mm", "QNLI", "RTE", "BoolQ", "MultiRC", "WSC"]


def test_main_metrics_are_those_of_the_benchmarks():
    main = {named.name: named.task.main_metric for named in find_tasks(["glue", "superglue", "msgs"], {})}
    assert {name for name, metric in main.items() if metric == "f1"} == {"mrpc", "qqp"}
    assert {name for name, metric in main.items() if metric == "spearman"} == {"stsb"}
    matthews = {name for name, metric in main.items() if metric == "matthews_correlation"}
    assert len(matthews) == 12 and "cola" in matthews
    assert set(main.values()) == {"f1", "spearman", "matthews_correlation", "accuracy"}


def test_a_suite_gives_its_tasks_a_table():
    (cola, *_) = find_tasks(["glue", "cola"], {})
    assert (cola.name, cola.kind, cola.title) == ("cola", "classification", "CoLA")
    assert cola.table is not None and cola.table.title == "GLUE" and list(cola.table.tasks)[:2] == ["cola", "sst2"]
    assert len(find_tasks(["glue", "cola"], {})) == 10
    assert find_tasks(["cola"], {})[0].table is None


def test_settings_go_to_one_task_or_to_all_that_have_them():
    tasks = find_tasks(["cola", "rte", "blimp"], {"cola.training.epochs": 5, "training.learning_rate": 2e-5})
    training = {named.name: named.task.config.training for named in tasks if named.kind == "classification"}
    assert (training["cola"].epochs, training["rte"].epochs) == (5, 4)
    assert training["cola"].learning_rate == training["rte"].learning_rate == 2e-5
    with pytest.raises(RecipeError, match="did you mean 'training'"):
        find_tasks(["cola"], {"trainin.epochs": 5})


def test_a_file_of_ones_own_is_a_task_or_a_suite(write, tmp_path):
    path = write("my_task.yaml", OWN)
    (named,) = find_tasks([path], {})
    assert (named.name, named.title, named.task.config.data.folder) == ("my_task", "My task", tmp_path)
    suite = write("ours.yaml", "title: Ours\ntasks: [my_task.yaml, cola]\n")
    first, second = find_tasks([suite], {})
    assert (first.name, second.name) == ("my_task", "cola")
    assert first.table is not None and first.table.tasks == {"my_task": "My task", "cola": "CoLA"}


def test_pairs_of_ones_own_lie_beside_their_yaml(write, tmp_path):
    (named,) = find_tasks([write("my_pairs.yaml", "kind: minimal_pairs")], {})
    assert named.task.config.whereabouts.folder == tmp_path
    write("pairs.jsonl", '{"sentence_good": "a", "sentence_bad": "b"}\n')
    assert len(named.task.pairs(None)) == 1


def test_two_tasks_of_one_name_are_refused(write):
    with pytest.raises(RecipeError, match="two tasks are named 'cola'"):
        find_tasks(["cola", write("cola.yaml", OWN)], {})
    path = write("mine.yaml", OWN)
    assert len(find_tasks([path, path], {})) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("data: {train: a, test: b}", r"my\.yaml: kind is missing"),
        ("kind: clasification", r"my\.yaml: there is no kind 'clasification', did you mean 'classification'"),
        ("kind: classification", "task my: data: is missing"),
        (OWN + "metric: [f1]", "task my: metric: unknown key, did you mean 'metrics'"),
        (OWN + "metrics: [acuracy]", "no metric 'acuracy', did you mean 'accuracy'"),
        ("kind: classification\ndata: {trian: a, test: b}", "data.trian: unknown key, did you mean 'train'"),
        (
            "kind: classification\ndata: {train: {file: a, colums: [b]}, test: b}",
            "data.train.colums: unknown key, did you mean 'columns'",
        ),
        (
            "kind: classification\ndata: {layouts: [{train: a, test: b, folder: [c]}]}",
            "data.layouts.0.folder: unknown key, did you mean 'folders'",
        ),
        ("kind: classification\ndata: {train: a, test: b, format: tvs}", "data.format: input should be 'csv', 'tsv'"),
        ("kind: classification\ndata: {train: a}", "either test"),
        ("title: x\ntasks: []", "tasks: list should have at least 1 item"),
        ("title: x\ntasks: [cola]\nkind: y", "kind: unknown key"),
        ("kind: classification\nkind: regression", "line 2: the key 'kind' stands twice"),
    ],
)
def test_yaml_that_can_not_be_used(write, text, told):
    with pytest.raises(RecipeError, match=told) as caught:
        find_tasks([write("my.yaml", text)], {})
    assert len(str(caught.value).splitlines()) <= 6


def test_names_that_do_not_exist(tmp_path):
    with pytest.raises(RecipeError, match="did you mean 'cola'"):
        find_tasks(["colla"], {})
    with pytest.raises(RecipeError, match="is no file"):
        find_tasks([str(tmp_path / "none.yaml")], {})
    with pytest.raises(RecipeError, match="did you mean 'max_tokens'"):
        build_task("held_out", {"max_token": 3})


def test_the_list_shows_where_data_comes_from(maskwright):
    said = maskwright("list", "tasks")
    assert said.code == 0
    lines = said.out.splitlines()
    assert any(line.startswith("babylm ") and "multirc, wsc" in line for line in lines)
    assert any(line.startswith("cola ") and "CoLA (classification; https://gluebenchmark.com" in line for line in lines)
    assert any(line.startswith("classification ") for line in lines)
