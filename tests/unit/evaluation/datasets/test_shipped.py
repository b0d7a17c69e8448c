"""The data sets that come with the package, in the layouts in which they are published."""

import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from maskwright.core.errors import MissingData
from maskwright.evaluation.catalogue import find_tasks, shipped_tasks
from maskwright.evaluation.datasets.labelled import Answer, Splits
from maskwright.evaluation.datasets.locate import files_sha256
from maskwright.evaluation.datasets.read_splits import read_splits
from maskwright.evaluation.fine_tuning.task import FineTunedTask

DATA = Path(__file__).parents[5] / "shared" / "data"

FINE_TUNED = [shipped.name for shipped in shipped_tasks() if not shipped.about.startswith("minimal_pairs")]


def read(name: str, data: Path | None) -> Splits:
    """Read the data of a shipped task."""
    (named,) = find_tasks([name], {})
    assert isinstance(named.task, FineTunedTask)
    return read_splits(named.task.config.data, named.task.kind, data, named.title)


def write(path: Path, rows: list[Any]) -> None:
    """Write JSON lines, or lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


MNLI = "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse"
MNLI_ROW = ["0", "1", "1e", "fiction", "p", "p", "p", "p", "A premise.", "A hypothesis."]

WSC = {
    "text": "Mark told Pete; he ran.",
    "target": {"span1_index": 0, "span1_text": "Mark", "span2_index": 3, "span2_text": "he"},
}
MULTIRC = {
    "text": "A passage.",
    "questions": [
        {"question": "Who?", "answers": [{"text": "Ann", "idx": 0, "label": 1}, {"text": "Bo", "idx": 1, "label": 0}]}
    ],
}
WIC = {"word": "bank", "sentence1": "A river bank.", "sentence2": "A bank robbed.", "start1": 8}
COPA = {"premise": "It rained.", "choice1": "Wet.", "choice2": "Dry.", "question": "effect"}
SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "T",
            "paragraphs": [
                {
                    "context": "In rain.",
                    "qas": [{"id": "q", "question": "In?", "answers": [{"text": "rain", "answer_start": 3}]}],
                }
            ],
        }
    ],
}

PUBLISHED: list[tuple[str, str, str, list[Any], list[str], tuple[str, ...], Any]] = [
    # task, training file, scored file, rows, names of the classes, first text, first target
    (
        "mnli",
        "MNLI/train.tsv",
        "MNLI/dev_matched.tsv",
        [
            "\t".join([*MNLI.split(), "sentence1", "sentence2", "label1", "gold_label"]),
            "\t".join([*MNLI_ROW, "neutral", "contradiction"]),
            "\t".join([*MNLI_ROW, "neutral", "neutral"]),
        ],
        ["entailment", "neutral", "contradiction"],
        ("A premise.", "A hypothesis."),
        2,
    ),
    (
        "mnli_mm",
        "mnli.train.json",
        "mnli.validation_mismatched.json",
        [{"premise": "P", "hypothesis": "H", "label": label} for label in (1, 0, 2)],
        ["entailment", "neutral", "contradiction"],
        ("P", "H"),
        1,
    ),
    (
        "qqp",
        "glue_data/QQP/train.tsv",
        "glue_data/QQP/dev.tsv",
        [
            "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
            "1\t2\t3\tA?\tB?\t1",
            "1\t2\t3\tA?\tB? 0",
            "1\t2\t3\t\t\t0",
        ],
        ["not_duplicate", "duplicate"],
        ("A?", "B?"),
        1,
    ),
    (
        "qnli",
        "glue/QNLI/train.tsv",
        "glue/QNLI/dev.tsv",
        ["index\tquestion\tsentence\tlabel", "0\tQ?\tS.\tnot_entailment", "1\tQ?\tS.\tentailment"],
        ["entailment", "not_entailment"],
        ("Q?", "S."),
        1,
    ),
    (
        "rte",
        "SuperGLUE/RTE/train.jsonl",
        "SuperGLUE/RTE/val.jsonl",
        [{"premise": "P", "hypothesis": "H", "label": label} for label in ("not_entailment", "entailment")],
        ["entailment", "not_entailment"],
        ("P", "H"),
        1,
    ),
    (
        "boolq",
        "superglue/BoolQ/train.jsonl",
        "superglue/BoolQ/val.jsonl",
        [{"question": "q", "passage": "p", "idx": 0, "label": label} for label in (True, False)],
        ["no", "yes"],
        ("q", "p"),
        1,
    ),
    (
        "boolq",
        "glue_filtered/boolq.train.jsonl",
        "glue_filtered/boolq.valid.jsonl",
        [{"question": "q", "passage": "p", "idx": 0, "label": label} for label in (1, 0)],
        ["no", "yes"],
        ("q", "p"),
        1,
    ),
    (
        "multirc",
        "superglue/MultiRC/train.jsonl",
        "superglue/MultiRC/val.jsonl",
        [{"idx": 0, "version": 1.1, "passage": MULTIRC}],
        ["wrong", "right"],
        ("Question: Who? Answer: Ann", "A passage."),
        1,
    ),
    (
        "multirc",
        "glue_filtered/multirc.train.json",
        "glue_filtered/multirc.validation.json",
        [{"paragraph": "P", "question": "Q", "answer": "A", "label": label} for label in (0, 1)],
        ["wrong", "right"],
        ("Question: Q Answer: A", "P"),
        0,
    ),
    (
        "wsc",
        "superglue/WSC/train.jsonl",
        "superglue/WSC/val.jsonl",
        [WSC | {"label": False}, WSC | {"label": True}],
        ["no", "yes"],
        ('Does "he" refer to "Mark" in this passage?', "Mark told Pete; he ran."),
        0,
    ),
    (
        "wsc",
        "glue_filtered/wsc.train.json",
        "glue_filtered/wsc.validation.json",
        [{"text": "T", "span1_text": "Mark", "span2_text": "he", "label": label} for label in (1, 0)],
        ["no", "yes"],
        ('Does "he" refer to "Mark" in this passage?', "T"),
        1,
    ),
    (
        "cb",
        "superglue/CB/train.jsonl",
        "superglue/CB/val.jsonl",
        [{"premise": "P", "hypothesis": "H", "label": label} for label in ("neutral", "contradiction", "entailment")],
        ["entailment", "contradiction", "neutral"],
        ("P", "H"),
        2,
    ),
    (
        "copa",
        "superglue/COPA/train.jsonl",
        "superglue/COPA/val.jsonl",
        [COPA | {"label": 1, "idx": 0}],
        ["wrong", "right"],
        ("It rained. What was the effect?", "Wet."),
        0,
    ),
    (
        "wic",
        "superglue/WiC/train.jsonl",
        "superglue/WiC/val.jsonl",
        [WIC | {"label": False}, WIC | {"label": True}],
        ["different", "same"],
        ("bank: A river bank.", "A bank robbed."),
        0,
    ),
    (
        "ag_news",
        "ag_news/train.csv",
        "ag_news/test.csv",
        ['"3","A ""title""","Text"', '"4","A","Text"', '"1","A","Text"', '"2","A","Text"'],
        ["World", "Sports", "Business", "Sci/Tech"],
        ('A "title" Text',),
        2,
    ),
    (
        "conll2003",
        "conll2003/eng.train",
        "conll2003/eng.testb",
        ["-DOCSTART- -X- O O", "", "EU NNP I-NP I-ORG", "rejects VBZ I-VP O", ""],
        ["I-ORG", "O"],
        ("EU", "rejects"),
        [0, 1],
    ),
    ("squad", "squad/train-v1.1.json", "squad/dev-v1.1.json", [SQUAD], [], ("In?", "In rain."), [Answer("rain", 3)]),
]


@pytest.mark.parametrize(
    ("name", "train", "test", "rows", "classes", "text", "target"), PUBLISHED, ids=lambda value: str(value)[:40]
)
def test_published_layouts(name, train, test, rows, classes, text, target, tmp_path):
    folder = tmp_path / "glue_filtered" if train.startswith("mnli.") else tmp_path
    for file in (train, test, "conll2003/eng.testa"):
        write(folder / file, rows)
    splits = read(name, tmp_path)
    assert list(splits.label_names) == classes
    assert (splits.train.texts[0], splits.train.targets[0]) == (text, target)
    assert splits.test.texts == splits.train.texts
    assert any("not comparable" in note for note in splits.notes) == ("glue_filtered" in str(folder / train))
    assert any("left out" in note for note in splits.notes) == (name == "qqp")


@pytest.mark.parametrize(
    ("name", "column"), [("main_verb_control", "linguistic"), ("lexical_content_the_control", "surface")]
)
def test_msgs_is_scored_where_the_features_disagree(name, column, tmp_path):
    other = {"linguistic": "surface", "surface": "linguistic"}[column]
    rows = [
        {
            "sentence": f"{place}.",
            "condition": condition,
            f"{column}_feature_label": place % 2,
            f"{other}_feature_label": None,
        }
        for place, condition in enumerate(["training", "training", "test", "test", "control", "control"])
    ]
    write(tmp_path / name / "train.jsonl", rows[:2])
    write(tmp_path / name / "test.jsonl", rows)
    splits = read(name, tmp_path)
    assert splits.test.texts == [("2.",), ("3.",)]
    assert splits.test.targets == [0, 1]
    assert splits.as_selected_by_babylm is not None and len(splits.as_selected_by_babylm) == 6
    labelled = [row | {"label": 1 - place % 2} for place, row in enumerate(rows)]
    for split in ("train", "validation"):
        write(tmp_path / "filtered" / "msgs_filtered" / f"{name}.{split}.json", labelled)
    assert read(name, tmp_path / "filtered").test.targets == [1, 0]


@pytest.mark.parametrize("name", FINE_TUNED)
def test_a_set_that_is_not_there_is_told_with_its_source(name, tmp_path):
    with pytest.raises(MissingData) as caught:
        read(name, tmp_path)
    assert len(str(caught.value).splitlines()) == 3
    assert caught.value.to_do.startswith("get it from http")


# --- the real files ---------------------------------------------------------------------------------------------------

real = pytest.mark.skipif(not DATA.is_dir(), reason="no shared data folder beside the checkout")

REAL_COUNTS = {
    "cola": ({1: 6023, 0: 2528}, {1: 721, 0: 322}),
    "sst2": ({1: 37569, 0: 29780}, {1: 444, 0: 428}),
    "mrpc": ({1: 2474, 0: 1194}, {1: 279, 0: 129}),
    "rte": ({0: 1249, 1: 1241}, {0: 146, 1: 131}),
    "wnli": ({1: 312, 0: 323}, {1: 31, 0: 40}),
}
"""Label counts of training and dev data, as counted without this package."""


@real
@pytest.mark.data
@pytest.mark.parametrize("name", REAL_COUNTS)
def test_real_glue(name):
    splits = read(name, DATA)
    assert (Counter(splits.train.targets), Counter(splits.test.targets)) == REAL_COUNTS[name]


@real
@pytest.mark.data
def test_real_stsb_and_treebank():
    similarity = read("stsb", DATA)
    assert (len(similarity.train), len(similarity.test)) == (5749, 1500)
    assert sum(similarity.train.targets) / 5749 == pytest.approx(2.70, abs=0.005)
    treebank = read("ud_pos", DATA)
    splits = [treebank.train, treebank.validation, treebank.test]
    assert [len(split) for split in splits if split] == [910, 441, 449]
    assert [sum(map(len, split.texts)) for split in splits if split] == [20_166, 11_418, 10_448]


@real
@pytest.mark.data
def test_real_msgs(tmp_path):
    name = "syntactic_category_relative_position"
    with tarfile.open(DATA / "msgs_regenerated" / "msgs_regenerated.tar.xz") as archive:
        files = [member for member in archive if member.name.removeprefix("./").startswith(f"{name}/")]
        archive.extractall(tmp_path, files, filter="data")
    meta = json.loads((DATA / "msgs_regenerated" / "meta.json").read_text())[name]["test"]["by_condition"]
    splits = read(name, tmp_path)
    assert Counter(splits.test.targets) == {0: meta["('test', '0', '1')"], 1: meta["('test', '1', '0')"]}
    assert splits.as_selected_by_babylm is not None and len(splits.as_selected_by_babylm) == sum(meta.values())


@real
@pytest.mark.data
@pytest.mark.parametrize("language", ["en", "tr", "de"])
def test_real_squad(language, tmp_path):
    (tmp_path / "squad").mkdir()
    for name in ("train-v1.1.json", "dev-v1.1.json"):
        (tmp_path / "squad" / name).symlink_to(DATA / "xquad" / f"xquad.{language}.json")
    splits = read("squad", tmp_path)
    assert len(splits.train) == 1190
    (named,) = find_tasks(["squad"], {})
    assert len(set(files_sha256(named.task.config.data, tmp_path).values())) == 1


@real
@pytest.mark.data
def test_real_qqp_has_one_row_that_is_cut_short(tmp_path):
    rows = (DATA / "glue" / "QQP_sample" / "qqp_sample.tsv").read_text(encoding="utf-8")
    for name in ("train", "dev"):
        write(tmp_path / "QQP" / f"{name}.tsv", ["id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", rows[:-1]])
    splits = read("qqp", tmp_path)
    assert Counter(splits.train.targets) == {0: 14_749, 1: 8_747}
    assert "1 row was left out, first line 2: 5 columns" in splits.notes[0]
