"""Every task in the documentation and the examples is one that the program takes; some are run."""

import json
from pathlib import Path

import pytest
from tests.docs.conftest import PAGES, ROOT, name_of, snippets
from tests.docs.test_recipes import TASKS, written_files

from maskwright.core.errors import MaskwrightError
from maskwright.core.records.evaluation import EvaluationRecord
from maskwright.evaluation.catalogue import find_tasks
from maskwright.evaluation.datasets.read_splits import read_splits
from maskwright.evaluation.fine_tuning.task import FineTunedTask
from maskwright.export.folder import export_model

PAGE = ROOT / "docs" / "tasks.md"
EXAMPLE = ROOT / "examples" / "own_task" / "kitchen_or_garden.yaml"
DATA = ROOT.parent / "shared" / "data"

TASK_SNIPPETS = [
    snippet
    for page in PAGES
    for snippet in snippets(page)
    if snippet.language == "yaml" and snippet.text.startswith(TASKS)
]

FILES: dict[str, str] = {
    "ag_news/subset_train_5k.csv": "Talks of peace.,0\nA late goal.,1\nOil is dear.,2\nA new probe.,3\n",
    "ag_news/subset_dev_1k.csv": "More talks.,0\nAnother goal.,1\n",
    "ag_news/test.csv": '"3","Fears","Unions say so."\n"4","The Race","A rocket."\n',
    "zero_shot/boolq_val.jsonl": "".join(
        json.dumps({"query": f"Passage: It rains.\nQuestion: {item}?\n", "choices": ["no", "yes"], "gold": item % 2})
        + "\n"
        for item in range(20)
    ),
}
"""Files as those that the page's tasks are about, only short."""


def split_sizes(path: Path, data: Path) -> tuple[int, int, list[str]]:
    """Read the data of a task by its path."""
    (named,) = find_tasks([str(path)], {})
    assert isinstance(named.task, FineTunedTask)
    splits = read_splits(named.task.config.data, named.task.kind, data)
    return len(splits.train), len(splits.test), list(splits.label_names)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The files of the page, and those that its tasks read."""
    written_files(PAGE, tmp_path)
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


@pytest.fixture
def model(encoder, vocabulary_head, corpus, tmp_path) -> Path:
    """A tiny model folder."""
    export_model(encoder, {"vocabulary": vocabulary_head}, corpus.load_tokenizer(), tmp_path / "model")
    return tmp_path / "model"


def test_every_snippet_is_a_task_or_a_suite(tmp_path):
    assert TASK_SNIPPETS
    problems = []
    for number, snippet in enumerate(TASK_SNIPPETS):
        folder = tmp_path / str(number)
        folder.mkdir()
        written_files(snippet.page, folder)
        path = folder / "my_snippet.yaml"
        path.write_text(snippet.text, encoding="utf-8")
        try:
            found = find_tasks([str(path)], {})
        except MaskwrightError as error:
            problems.append(f"{name_of(snippet.page)}: {error}")
        else:
            assert found, snippet
    assert not problems


def test_the_shortest_task_on_the_page_runs(written, model, maskwright):
    said = maskwright(
        "evaluate", model, "--tasks", written / "my_task.yaml", "--set", "training.epochs=1", "--seeds", 2
    )
    assert said.code == 0, said.err
    record = EvaluationRecord.read(model / "evaluation" / "my_task.json")
    assert list(record.scores) == ["accuracy", "macro_f1"]
    assert [seed.seed for seed in record.seeds] == [12, 13]
    assert list(record.data_sha256) == ["train.csv", "test.csv"]


def test_the_example_runs_with_a_folder_that_does_not_hold_it(model, maskwright, tmp_path):
    said = maskwright("evaluate", model, "--tasks", EXAMPLE, "--data", tmp_path, "--set", "training.epochs=1")
    assert said.code == 0, said.err
    record = EvaluationRecord.read(model / "evaluation" / "kitchen_or_garden.json")
    assert record.title == "Kitchen or garden"
    assert record.baselines["majority"]["accuracy"] == 0.5


def test_the_page_s_other_tasks_read_such_files(written):
    classes = ["World", "Sports", "Business", "Sci/Tech"]
    assert split_sizes(written / "my_news.yaml", written) == (4, 2, classes)
    assert split_sizes(written / "my_boolq.yaml", written) == (14, 6, ["no", "yes"])


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data folder beside the checkout")
def test_the_page_s_other_tasks_read_the_real_files(tmp_path):
    written_files(PAGE, tmp_path)
    assert split_sizes(tmp_path / "my_news.yaml", DATA)[:2] == (5000, 7600)
    assert split_sizes(tmp_path / "my_boolq.yaml", DATA) == (2289, 981, ["no", "yes"])
