"""Data sets as their section of a YAML file describes them, and everything that can be wrong with them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from maskwright.core.errors import EvaluationError, MissingData
from maskwright.core.files import sha256_of_file
from maskwright.evaluation.datasets.labelled import Answer
from maskwright.evaluation.datasets.locate import files_sha256
from maskwright.evaluation.datasets.read_splits import read_splits
from maskwright.evaluation.datasets.section import DataSection

ROWS = "text,label\nA fine day.,good\nA sad day.,bad\nA very fine day.,good\n"


@pytest.fixture
def data(tmp_path: Path):
    """Return a function that writes files by name, and gives their folder."""

    def written(**files: str) -> Path:
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        return tmp_path

    return written


def section(text: str) -> DataSection:
    """Return a section as it stands in YAML."""
    return DataSection.model_validate(yaml.safe_load(text))


def lines(*rows: Any) -> str:
    """Return JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_the_shortest_section(data):
    folder = data(train_dot_csv=ROWS, test_dot_csv="text,label\nA bad day.,bad\n")
    splits = read_splits(section("{train: train.csv, test: test.csv}"), "classification", folder)
    assert list(splits.label_names) == ["bad", "good"]
    assert splits.train.texts == [("A fine day.",), ("A sad day.",), ("A very fine day.",)]
    assert splits.train.targets == [1, 0, 1]
    assert splits.train.ids == ["1", "2", "3"]
    assert splits.test.targets == [0]
    assert splits.validation is None and splits.as_selected_by_babylm is None and not splits.notes
    sums = files_sha256(section("{train: train.csv, test: test.csv}"), folder)
    assert sums == {name: sha256_of_file(folder / name) for name in ("train.csv", "test.csv")}


def test_numbers_as_labels_are_sorted_as_numbers(data):
    folder = data(a_dot_csv="text,label\n" + "".join(f"t,{label}\n" for label in (10, 9, 2, 10)))
    names = read_splits(section("{train: a.csv, test: a.csv}"), "classification", folder).label_names
    assert list(names) == ["2", "9", "10"]


def test_a_split_is_read_in_its_own_way(data):
    folder = data(train_dot_csv="Some text.,0\nMore text.,1\n", test_dot_csv='"2","Title","text"\n"1","A","b"\n')
    described = """
      train: {file: train.csv, columns: [text, label], labels: {World: 0, Sports: 1}}
      test:
        file: test.csv
        columns: [label, title, description]
        text: "{title} {description}"
        labels: {World: 1, Sports: 2}
    """
    splits = read_splits(section(described), "classification", folder)
    assert list(splits.label_names) == ["World", "Sports"]
    assert splits.test.texts == [("Title text",), ("A b",)]
    assert splits.test.targets == [1, 0]


def test_templates_look_names_up_and_nothing_else(data):
    folder = data(
        a_dot_jsonl=lines(
            {"q": "{x}", "o": {"p": ["a", "b"]}, "label": 0}, {"q": "?", "o": {"p": ["c", "d"]}, "label": 1}
        )
    )
    described = section("""{train: a.jsonl, test: a.jsonl, text: ["Q: {q} {o.p.1}", o.p.0]}""")
    splits = read_splits(described, "classification", folder)
    assert splits.train.texts[0] == ("Q: {x} b", "a")
    for text in ("{q.__class__}", "{q!r}", "{q[0]}"):
        with pytest.raises(EvaluationError, match="no column"):
            read_splits(section(f"{{train: a.jsonl, test: a.jsonl, text: '{text}'}}"), "classification", folder)


def test_rows_inside_rows(data):
    answers = [{"text": "yes", "label": 1}, {"text": "no", "label": 0}]
    passage = {
        "text": "P",
        "questions": [{"question": "Q1", "answers": answers}, {"question": "Q2", "answers": answers[:1]}],
    }
    folder = data(a_dot_jsonl=lines({"idx": 0, "passage": passage}))
    described = section("""
      rows: passage.questions.answers
      text: ["{passage.questions.question} {passage.questions.answers.text}", passage.text]
      label: passage.questions.answers.label
      train: a.jsonl
      test: a.jsonl
    """)
    rows = read_splits(described, "classification", folder).train
    assert rows.texts == [("Q1 yes", "P"), ("Q1 no", "P"), ("Q2 yes", "P")]
    assert rows.targets == [1, 0, 1]
    assert rows.ids == ["1.1", "1.2", "1.3"]


def test_choices_become_rows_and_the_likeliest_is_the_answer(data):
    folder = data(
        a_dot_jsonl=lines(
            {"premise": "It rained.", "a": "wet", "b": "dry", "label": 0},
            {"premise": "It shone.", "a": "wet", "b": "dry", "label": 1},
        )
    )
    described = section("{choices: [a, b], text: [premise, choice], train: a.jsonl, test: a.jsonl}")
    splits = read_splits(described, "classification", folder)
    rows = splits.test
    assert list(splits.label_names) == ["wrong", "right"]
    assert rows.texts == [("It rained.", "wet"), ("It rained.", "dry"), ("It shone.", "wet"), ("It shone.", "dry")]
    assert (rows.targets, rows.ids, rows.question_ids) == (
        [1, 0, 0, 1],
        ["1.0", "1.1", "2.0", "2.1"],
        ["1", "1", "2", "2"],
    )
    names, chosen, right = rows.choose_answers(np.array([0.2, 0.3, 0.1, 0.9]))
    assert (names, chosen.tolist(), right.tolist()) == (["1", "2"], [1, 1], [0, 1])
    assert rows.take(np.array([2, 3])).question_ids == ["2", "2"]
    data(a_dot_jsonl=lines({"premise": "x", "a": "y", "b": "z", "label": 2}))
    with pytest.raises(EvaluationError, match=r"line 1: label is '2', not the number of a choice from 0 to 1"):
        read_splits(described, "classification", folder)


def test_rows_are_taken_by_condition_and_selected_on_all(data):
    rows = [
        {"text": f"t{place}", "label": place % 2, "condition": "test" if place < 4 else "control"} for place in range(6)
    ]
    folder = data(a_dot_jsonl=lines(*rows))
    described = section("""
      train: a.jsonl
      test: {file: a.jsonl, where: {condition: test}}
      selected_by_babylm: a.jsonl
      strata: condition
    """)
    splits = read_splits(described, "classification", folder)
    assert splits.test.ids == ["1", "2", "3", "4"]
    assert splits.as_selected_by_babylm is not None and len(splits.as_selected_by_babylm) == 6
    assert splits.train.strata == ["test"] * 4 + ["control"] * 2


def test_a_cut_is_the_same_every_time_and_loses_nothing(data):
    folder = data(a_dot_csv="text,label\n" + "".join(f"text {place},{place % 2}\n" for place in range(50)))
    described = "{train: a.csv, cut: {test_fraction: 0.3, seed: %d}}"
    splits = read_splits(section(described % 1), "classification", folder)
    assert (len(splits.train), len(splits.test)) == (35, 15)
    assert sorted([*splits.train.ids, *splits.test.ids], key=int) == [str(place) for place in range(1, 51)]
    assert read_splits(section(described % 1), "classification", folder).test.ids == splits.test.ids
    assert read_splits(section(described % 2), "classification", folder).test.ids != splits.test.ids


def test_a_cut_keeps_what_is_from_one_record_together(data):
    row = {"a": "x", "b": "y", "label": 0}
    folder = data(a_dot_jsonl=lines(*[row] * 10))
    described = section("{choices: [a, b], text: choice, train: a.jsonl, cut: {test_fraction: 0.5}}")
    splits = read_splits(described, "classification", folder)
    assert not set(splits.train.question_ids) & set(splits.test.question_ids)
    assert len(splits.train) == len(splits.test) == 10


def test_regression(data):
    folder = data(a_dot_tsv="a\tb\tscore\nx\ty\t2.5\nx\tz\t-1\n")
    described = section("{train: a.tsv, test: a.tsv, text: [a, b], label: score}")
    splits = read_splits(described, "regression", folder)
    assert (splits.train.targets, list(splits.label_names)) == ([2.5, -1.0], [])
    for value in ("much", "", "nan"):
        data(a_dot_tsv=f"a\tb\tscore\nx\ty\t2.5\nx\tz\t{value}\n")
        with pytest.raises(EvaluationError, match=r"a\.tsv, line 3: .*no number"):
            read_splits(described, "regression", folder)


def test_words_with_labels(data):
    folder = data(
        train_dot_conll="EU B-ORG\nsays O\n\nPeter B-PER\n",
        test_dot_jsonl=lines({"tokens": ["a", "b"], "tags": [0, 2]}),
    )
    described = section("""
      train: train.conll
      test: {file: test.jsonl, text: tokens, label: tags, labels: {O: 0, B-ORG: 1, B-PER: 2}}
    """)
    splits = read_splits(described, "token_classification", folder)
    assert list(splits.label_names) == ["B-ORG", "B-PER", "O"]
    assert splits.train.texts == [("EU", "says"), ("Peter",)]
    assert (splits.train.targets, splits.test.targets) == ([[0, 2], [1]], [[2, 1]])
    data(test_dot_jsonl=lines({"tokens": ["a", "b"], "tags": [0]}))
    with pytest.raises(EvaluationError, match="2 words and 1 labels"):
        read_splits(described, "token_classification", folder)


def test_a_rare_tag_that_is_named_may_be_missing_in_training(data):
    folder = data(train_dot_conll="a N\n", test_dot_conll="b X\n")
    with pytest.raises(EvaluationError, match="has no label 'X'"):
        read_splits(section("{train: train.conll, test: test.conll}"), "token_classification", folder)
    named = section("{train: train.conll, test: test.conll, labels: [N, V, X]}")
    assert read_splits(named, "token_classification", folder).test.targets == [[2]]


def test_questions_as_squad_and_as_the_hub_have_them(data):
    answers = [{"text": "rain", "answer_start": 3}]
    paragraph = {"context": "In rain.", "qas": [{"id": "q1", "question": "In what?", "answers": answers}]}
    by_list = {"text": ["rain"], "answer_start": [3]}
    folder = data(
        train_dot_json=json.dumps({"data": [{"paragraphs": [paragraph, paragraph | {"qas": []}]}]}),
        test_dot_jsonl=lines(
            {"q": "?", "c": "In rain.", "a": by_list}, {"q": "?", "c": "", "a": {"text": [], "answer_start": []}}
        ),
    )
    described = section("""
      train:
        file: train.json
        rows: data.paragraphs.qas
        text: [data.paragraphs.qas.question, data.paragraphs.context]
        label: data.paragraphs.qas.answers
        id: data.paragraphs.qas.id
      test: {file: test.jsonl, text: [q, c], label: a}
    """)
    splits = read_splits(described, "question_answering", folder)
    assert splits.train.texts == [("In what?", "In rain.")]
    assert splits.train.ids == ["q1"]
    assert splits.train.targets == [[Answer("rain", 3)]]
    assert splits.test.targets == [[Answer("rain", 3)], []]
    data(test_dot_jsonl=lines({"q": "?", "c": "In rain.", "a": {"text": ["rain"], "answer_start": [2]}}))
    with pytest.raises(EvaluationError, match="'rain' does not stand at character 2"):
        read_splits(described, "question_answering", folder)


# --- what can be wrong ------------------------------------------------------------------------------------------------


def test_a_label_that_the_training_data_does_not_have(data):
    folder = data(train_dot_csv=ROWS, test_dot_csv="text,label\nx,good\ny,god\n")
    with pytest.raises(
        EvaluationError,
        match=r"test\.csv, line 3: the training data .*train\.csv.* has no label 'god', did you mean 'good'",
    ):
        read_splits(section("{train: train.csv, test: test.csv}"), "classification", folder)
    data(test_dot_csv="text,label\nx,mixed\n")
    named = section("{train: train.csv, test: test.csv, labels: [good, bad, mixed]}")
    with pytest.raises(EvaluationError, match=r"line 2: the training data .* has no label 'mixed'"):
        read_splits(named, "classification", folder)


def test_a_label_that_the_yaml_does_not_name(data):
    folder = data(train_dot_csv=ROWS)
    described = section("{train: train.csv, test: train.csv, labels: {nice: goood, bad: bad}}")
    with pytest.raises(
        EvaluationError, match=r"line 2: label 'good' is none of the labels goood, bad, did you mean 'goood'"
    ):
        read_splits(described, "classification", folder)
    data(train_dot_csv="text,label\nx,\n")
    with pytest.raises(EvaluationError, match="line 2: label is empty"):
        read_splits(section("{train: train.csv, test: train.csv}"), "classification", folder)


def test_one_class_alone_is_nothing_to_learn(data):
    folder = data(train_dot_csv="text,label\nx,1\ny,1\n")
    with pytest.raises(EvaluationError, match="every row is labelled '1'"):
        read_splits(section("{train: train.csv, test: train.csv}"), "classification", folder)


def test_empty_splits(data):
    folder = data(train_dot_csv=ROWS, test_dot_csv="text,label\n", none_dot_csv="")
    for name in ("test.csv", "none.csv"):
        with pytest.raises(EvaluationError, match=rf"{name} has no rows"):
            read_splits(section(f"{{train: train.csv, test: {name}}}"), "classification", folder)
    filtered = section("{train: train.csv, test: {file: train.csv, where: {label: ugly}}}")
    with pytest.raises(EvaluationError, match=r"has no rows with label ugly"):
        read_splits(filtered, "classification", folder)


def test_a_missing_column_names_the_nearest(data):
    folder = data(train_dot_csv=ROWS)
    with pytest.raises(EvaluationError, match=r"line 2: no column 'txt', did you mean 'text'\?; there are text, label"):
        read_splits(section("{train: train.csv, test: train.csv, text: txt}"), "classification", folder)


def test_bad_rows_are_errors_or_are_counted(data, capsys):
    folder = data(train_dot_tsv="text\tlabel\na\t1\nb\nc\t0\n")
    with pytest.raises(EvaluationError, match=r"line 3: 1 columns, not 2 .*\n.*\n.*skip_bad_rows: true"):
        read_splits(section("{train: train.tsv, test: train.tsv}"), "classification", folder)
    skipping = section("{train: train.tsv, test: train.tsv, skip_bad_rows: true}")
    splits = read_splits(skipping, "classification", folder)
    assert (len(splits.train), splits.train.ids) == (2, ["1", "3"])
    assert splits.notes == ["train.tsv: 1 row was left out, first line 3: 1 columns, not 2 (text, label)"]
    assert "1 row was left out" in capsys.readouterr().err
    data(train_dot_tsv="text\tlabel\na\t1\nb\t\nc\t0\n")
    with pytest.raises(EvaluationError, match="label is empty"):  # a label is never skipped
        read_splits(skipping, "classification", folder)


def test_ids_are_unique(data):
    folder = data(train_dot_csv="text,label,n\nx,1,7\ny,0,7\n")
    with pytest.raises(EvaluationError, match="n '7' stands twice"):
        read_splits(section("{train: train.csv, test: train.csv, id: n}"), "classification", folder)


def test_a_missing_set_is_told_with_its_layouts_and_source(data, tmp_path):
    folder = data(glue__CoLA__train_dot_tsv="x")
    described = section("""
      source: https://example.org
      layouts:
        - {folders: [glue_filtered], train: a.jsonl, test: b.jsonl}
        - {folders: [glue/CoLA, CoLA], train: train.tsv, test: dev.tsv}
    """)
    with pytest.raises(MissingData) as caught:
        read_splits(described, "classification", folder, "CoLA")
    assert str(caught.value).splitlines() == [
        f"CoLA: {folder}/glue/CoLA/dev.tsv does not exist",
        f"expected: below {folder}: glue_filtered/ with a.jsonl, b.jsonl; or glue/CoLA/ with train.tsv, dev.tsv",
        "to do: get it from https://example.org",
    ]
    with pytest.raises(MissingData, match="is no folder"):
        files_sha256(described, tmp_path / "nothing", "CoLA")
    with pytest.raises(MissingData, match="no folder was given"):
        files_sha256(described, None, "CoLA")


def test_files_lie_beside_the_yaml_or_below_data(data, tmp_path):
    folder = data(train_dot_csv=ROWS, other__train_dot_csv=ROWS.replace("good", "great"))
    described = DataSection.model_validate({"train": "train.csv", "test": "train.csv", "folder": folder})
    assert "good" in read_splits(described, "classification", None).label_names
    assert "great" in read_splits(described, "classification", folder / "other").label_names
    assert "folder" not in described.model_dump()


def test_a_layout_may_have_a_note(data):
    folder = data(a_dot_csv=ROWS)
    splits = read_splits(section("{train: a.csv, test: a.csv, note: filtered}"), "classification", folder)
    assert splits.notes == ["filtered"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{test: a}", "train is missing"),
        ("{train: a}", "either test"),
        ("{train: a, test: b, cut: {}}", "either test"),
        ("{train: a, test: b, text: [a, b, c]}", "3 texts"),
        ("{train: a, test: b, encoding: utf-9}", "no encoding"),
        ("{train: a, test: b, labels: {x: 1, y: [1, 2]}}", "'1' stands for two classes"),
        ("{train: a, test: b, labels: 3}", "dictionary"),
        ("{train: {file: a, txt: b}, test: b}", "txt"),
    ],
)
def test_sections_that_can_not_be_meant(text, problem):
    with pytest.raises(ValidationError, match=problem):
        section(text)


def test_records_show_what_was_said_only():
    described = section("{train: {file: a.csv, format: tsv}, test: b.csv, labels: [x, 1]}")
    assert described.model_dump(mode="json") == {
        "train": {"file": "a.csv", "format": "tsv"},
        "test": {"file": "b.csv"},
        "labels": {"x": ["x"], "1": ["1"]},
    }
    assert DataSection.model_validate(described.model_dump()) == described
