"""Data sets of the hub, with a stand-in for `datasets`: it is optional, and no test has a network."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from maskwright.core.errors import EvaluationError, MissingData
from maskwright.evaluation.datasets.locate import files_sha256
from maskwright.evaluation.datasets.read_splits import read_splits
from maskwright.evaluation.datasets.section import DataSection

ROWS = [{"sentence": "A text.", "label": 1}, {"sentence": "No text.", "label": 0}]

SECTION = DataSection.model_validate(
    {
        "source": "https://example.org",
        "text": "sentence",
        "labels": {"bad": 0, "good": 1},
        "layouts": [
            {"folders": ["glue/CoLA"], "train": "train.tsv", "test": "dev.tsv"},
            {"hub": "nyu-mll/glue/cola@main", "train": "train", "test": "validation"},
        ],
    }
)


class DatasetsError(Exception):
    """As `datasets.exceptions.DatasetsError`."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):
    """Return a function that says what `load_dataset` gives; it remembers how it was called."""
    calls = []

    def answer_with(answer):
        def load_dataset(*names, **options):
            calls.append((names, options))
            if isinstance(answer, Exception):
                raise answer
            return answer

        exceptions = SimpleNamespace(DatasetsError=DatasetsError)
        monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset, exceptions=exceptions))
        return calls

    return answer_with


def test_splits_are_loaded_where_no_folder_is_given(hub):
    calls = hub(ROWS)
    splits = read_splits(SECTION, "classification", None, "CoLA")
    assert calls[1] == (("nyu-mll/glue", "cola"), {"split": "validation", "revision": "main"})
    assert splits.train.texts == [("A text.",), ("No text.",)]
    assert splits.train.targets == [1, 0]
    assert splits.test.origin == "hf:nyu-mll/glue/cola@main/validation"


def test_a_configuration_and_a_revision_may_be_missing(hub):
    calls = hub(ROWS)
    section = DataSection.model_validate({"hub": "me/mine", "train": "train", "test": "test", "text": "sentence"})
    read_splits(section, "classification", None)
    assert calls[0] == (("me/mine", None), {"split": "train", "revision": None})


def test_the_checksum_is_of_the_rows(hub):
    hub(ROWS)
    first = files_sha256(SECTION, None)
    assert list(first) == ["hf:nyu-mll/glue/cola@main/train", "hf:nyu-mll/glue/cola@main/validation"]
    assert files_sha256(SECTION, None) == first
    hub([*ROWS, ROWS[0]])
    assert files_sha256(SECTION, None) != first


@pytest.mark.parametrize(
    "problem",
    [
        ConnectionError("no network"),
        DatasetsError("gone"),
        RuntimeError("scripts are no longer supported"),
        OSError(""),
    ],
)
def test_what_can_not_be_loaded_is_missing(hub, problem):
    hub(problem)
    with pytest.raises(MissingData, match="CoLA: no --data was given, and hf:nyu-mll/glue/cola@main") as caught:
        read_splits(SECTION, "classification", None, "CoLA")
    assert "https://example.org" in caught.value.to_do and "--data" in caught.value.to_do
    assert "network" in caught.value.to_do


def test_without_the_library_both_ways_out_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingData) as caught:
        files_sha256(SECTION, None, "CoLA")
    assert str(caught.value).splitlines() == [
        "CoLA: no --data was given, and datasets, which loads hf:nyu-mll/glue/cola@main, is not installed",
        "expected: --data, or the library and a network",
        "to do: get its files from https://example.org and name the folder that holds them with --data; "
        'or pip install "maskwright[hub]"',
    ]


def test_nothing_is_loaded_where_a_folder_is_given(hub, tmp_path: Path):
    calls = hub(ROWS)
    with pytest.raises(MissingData, match=r"glue/CoLA/train\.tsv does not exist"):
        read_splits(SECTION, "classification", tmp_path, "CoLA")
    assert not calls


def test_rows_of_the_hub_are_named_in_errors(hub):
    hub([{"sentence": "A text.", "label": -1}])
    told = r"hf:nyu-mll/glue/cola@main/train, row 0: label '-1' is none of the labels 0, 1"
    with pytest.raises(EvaluationError, match=told):
        read_splits(SECTION, "classification", None)


def test_the_library_itself_reads_a_folder(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    pytest.importorskip("datasets", reason="datasets is optional")
    folder = tmp_path / "me" / "mine"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text("sentence,label\nA text.,1\nNo text.,0\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    raw = {"hub": "me/mine", "train": "train", "test": "test", "text": "sentence"}
    section = DataSection.model_validate(raw)
    assert read_splits(section, "classification", None).test.targets == [1, 0]
    assert len(set(files_sha256(section, None).values())) == 1
    with pytest.raises(MissingData, match="split dev, can't be loaded"):
        read_splits(DataSection.model_validate(raw | {"test": "dev"}), "classification", None, "mine")
    with pytest.raises(MissingData, match="hf:me/other"):
        read_splits(DataSection.model_validate(raw | {"hub": "me/other"}), "classification", None, "other")
