"""Reading pairs, what they are worth, ties, phenomena, and everything that can be wrong with a file."""

import json
import sys
import zipfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertConfig

from maskwright.core.errors import EvaluationError, MissingData, MissingDependency
from maskwright.evaluation.catalogue import find_tasks
from maskwright.evaluation.evaluated_model import EvaluatedModel
from maskwright.evaluation.items import Items
from maskwright.evaluation.run_tasks import evaluate
from maskwright.evaluation.scorer import MaskedLanguageModel
from maskwright.evaluation.tasks.minimal_pairs import MinimalPairs, group_scores
from maskwright.tokenization.folder import save_tokenizer

BLIMP = Path(__file__).parents[4] / "shared" / "data" / "blimp" / "BLiMP.zip"

PAIRS = [
    ("The court dismissed the appeal.", "The court dismissed appeal the."),
    ("She closed the door.", "She closed the stairs door."),
    ("A small brown dog slept.", "A small brown dog slept."),
    ("Nobody knew why.", "Nobody why knew."),
]


def write_pairs(path: Path, pairs: list[tuple[str, str]] = PAIRS, **fields: str) -> Path:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"sentence_good": good, "sentence_bad": bad, **fields} for good, bad in pairs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def subject_of(model: MaskedLanguageModel | None, data: Path | None):
    """Return what stands for a `EvaluatedModel`."""
    known = {"name": "m", "sha256": "a" * 64, "device": torch.device("cpu"), "corpus": None, "reader": None}
    return SimpleNamespace(**known, data=data, masked_language_model=model)


def items_of(credit: list[float], strata: list[str], index: list[int]) -> Items:
    """Return items whose log-likelihoods give the credits."""
    good = np.array(credit) - 0.5
    columns = {"credit": np.array(credit), "good_log_likelihood": good, "bad_log_likelihood": np.zeros(len(good))}
    columns["num_truncated"] = np.zeros(len(good), dtype=np.int64)
    return Items(np.arange(len(good)), columns, np.array(index), strata)


ITEMS = items_of(
    [1, 1, 0, 0.5, 1, 0, 1, 1, 1, 0.5],
    ["syntax/islands", "syntax/gaps", "ellipsis", "binding/unseen"],
    [0, 0, 0, 0, 1, 1, 2, 2, 2, 2],
)


def test_scores_are_means_over_phenomena_paradigms_and_pairs():
    scores = MinimalPairs().scores(ITEMS)
    assert scores["accuracy"] == pytest.approx(((2.5 + 1) / 6 + 3.5 / 4) / 2)
    assert scores["paradigm_accuracy"] == pytest.approx((2.5 / 4 + 1 / 2 + 3.5 / 4) / 3)
    assert scores["micro_accuracy"] == pytest.approx(7 / 10)
    assert (scores["num_pairs"], scores["num_ties"], scores["num_truncated_sentences"]) == (10, 2, 0)


def test_groups_are_phenomena_and_their_paradigms_with_intervals():
    groups = group_scores(ITEMS, seed=1)
    assert list(groups) == ["ellipsis", "syntax", "syntax/islands", "syntax/gaps"]
    syntax = groups["syntax"]
    assert syntax["accuracy"] == pytest.approx(3.5 / 6)
    assert (syntax["num_pairs"], syntax["num_ties"]) == (6, 1)
    assert syntax["low"] < syntax["accuracy"] < syntax["high"]
    assert groups == group_scores(ITEMS, seed=1)


def test_the_interval_of_a_phenomenon_is_that_of_resampled_pairs():
    generator = np.random.default_rng(0)
    credit = generator.choice([0, 0.5, 1], 300, p=[0.3, 0.1, 0.6])
    index = np.repeat([0, 1], [100, 200])
    found = group_scores(items_of(credit.tolist(), ["a/one", "a/two"], index.tolist()), seed=1)["a"]
    resampled = [
        np.concatenate([generator.choice(credit[index == part], (index == part).sum()) for part in (0, 1)]).mean()
        for _ in range(4000)
    ]
    np.testing.assert_allclose([found["low"], found["high"]], np.quantile(resampled, [0.025, 0.975]), atol=0.012)


@pytest.mark.parametrize(("ties", "expected"), [("half", 0.5), ("correct", 1.0)])
def test_a_model_without_an_opinion_gives_ties(model: MaskedLanguageModel, tmp_path: Path, ties, expected):
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.zero_()
    pairs = [("the dog slept", "dog the slept"), ("the court", "the door"), ("she walked", "walked she")]
    task = MinimalPairs(MinimalPairs.Config(ties=ties))
    result = task.evaluate(subject_of(model, write_pairs(tmp_path / "pairs.jsonl", pairs)), seed=1)
    assert result.scores["num_ties"] == result.scores["num_pairs"] == 3
    assert result.scores["accuracy"] == result.scores["micro_accuracy"] == expected
    assert result.groups["pairs"]["low"] == result.groups["pairs"]["high"] == expected
    assert any("3 ties count as correct" in note for note in result.notes) == (ties == "correct")


def test_a_record_has_scores_groups_interval_notes_and_items(model: MaskedLanguageModel, tmp_path: Path):
    write_pairs(tmp_path / "data" / "one.jsonl", group="order")
    write_pairs(tmp_path / "data" / "two.jsonl", PAIRS[:2], group="s-order")
    (tmp_path / "data" / "._one.jsonl").write_bytes(b"\x00\x05\x16\x07")
    settings = {"fields": {"group": "group"}, "group_names": {"s-order": "order"}}
    tasks = find_tasks(["minimal_pairs"], settings)
    (record,) = evaluate(subject_of(model, tmp_path / "data"), tasks, tmp_path / "out", 3).records
    assert list(record.groups) == ["order", "order/one", "order/two"]
    assert record.main_metric == "accuracy"
    assert record.scores["accuracy"] == record.groups["order"]["accuracy"]
    low, high = record.intervals["accuracy"]
    assert low <= record.scores["accuracy"] <= high
    assert record.notes == ["1 pairs consist of twice the same sentence: ties for every model."]
    assert record.baselines["chance"]["accuracy"] == 0.5
    assert record.settings["num_forward_passes"] < record.settings["num_masked_copies"]
    items = Items.read(tmp_path / "out" / "items" / "minimal_pairs.seed-3.jsonl")
    assert items.ids.tolist() == [*(f"one:{n}" for n in range(4)), "two:0", "two:1"]
    assert list(items.strata) == ["order/one", "order/two"]
    assert tasks[0].task.scores(items) == record.scores
    assert items.columns["credit"][2] == 0.5


def test_the_order_of_pairs_and_files_does_not_matter(model: MaskedLanguageModel, tmp_path: Path):
    task = MinimalPairs()
    forward = task.evaluate(subject_of(model, write_pairs(tmp_path / "a.jsonl")), 1).items
    backward = task.evaluate(subject_of(model, write_pairs(tmp_path / "b.jsonl", PAIRS[::-1])), 1).items
    assert forward is not None
    assert backward is not None
    for name in ("good_log_likelihood", "bad_log_likelihood"):
        np.testing.assert_allclose(forward.columns[name], backward.columns[name][::-1], atol=1e-5)


def test_a_sample_is_drawn_from_every_paradigm_and_is_fixed(tmp_path: Path):
    many = [(f"the dog {number}", f"dog the {number}") for number in range(30)]
    write_pairs(tmp_path / "a.jsonl", many)
    write_pairs(tmp_path / "b.jsonl", many[:4])
    pairs = MinimalPairs().pairs(tmp_path)
    sample = pairs.sample(5, seed=1)
    assert Counter(sample.paradigm_index.tolist()) == {0: 5, 1: 4}
    assert sample.ids.tolist() == pairs.sample(5, seed=1).ids.tolist()
    assert sample.ids.tolist() != pairs.sample(5, seed=2).ids.tolist()
    assert [sample.good[0], sample.bad[0]] == list(many[int(sample.ids[0].split(":")[1])])


def test_a_table_of_pairs_is_read_as_well(tmp_path: Path):
    path = tmp_path / "pairs.tsv"
    path.write_text("sentence_good\tsentence_bad\nthe dog\tdog the\n", encoding="utf-8")
    pairs = MinimalPairs().pairs(path)
    assert (pairs.good, pairs.bad, pairs.paradigms) == (["the dog"], ["dog the"], ["pairs"])


def test_too_long_sentences_are_counted_and_noted(make_model, tokenizer, tmp_path: Path):
    model = make_model(tokenizer, max_positions=7)
    result = MinimalPairs().evaluate(subject_of(model, write_pairs(tmp_path / "pairs.jsonl")), 1)
    assert result.items is not None
    num_long = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) > 5 for pair in PAIRS for text in pair)
    assert result.scores["num_truncated_sentences"] == result.items.columns["num_truncated"].sum() == num_long > 0
    assert f"{num_long} of 8 sentences are longer than the 5 tokens" in result.notes[0]


GOOD = b'{"sentence_good": "a", "sentence_bad": "b"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD + b"{oops\n", r"pairs.jsonl, line 2: no JSON"),
        (
            GOOD + b"\n" + b'{"sentence_good": "a"}\n',
            r"line 3: there is no field 'sentence_bad'[\s\S]*found: sentence_good",
        ),
        (b'["a", "b"]\n', r"line 1: a JSON list"),
        (b'{"sentence_good": 5, "sentence_bad": "b"}\n', r"line 1: sentence_good is 5"),
        (b'{"sentence_good": "a", "sentence_bad": " "}\n', r"line 1: sentence_bad is"),
        (b"\xff\xfe\n", r"line 1, byte 0: not utf-8"),
        (b"", r"pairs.jsonl is empty"),
    ],
)
def test_a_bad_file_is_named_with_line_and_field(tmp_path: Path, content, message):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match=message):
        MinimalPairs().pairs(path)


@pytest.mark.parametrize("layout", ["blimp/data", "blimp", "data", "blimp_filtered"])
def test_blimp_is_found_in_every_layout(tmp_path: Path, layout):
    write_pairs(tmp_path / layout / "animate_subject_passive.jsonl", linguistics_term="s-selection")
    write_pairs(tmp_path / layout / "causative.jsonl", linguistics_term="argument_structure")
    task = find_tasks(["blimp"], {})[0].task
    assert isinstance(task, MinimalPairs)
    assert task.pairs(tmp_path).paradigms == [
        "argument_structure/animate_subject_passive",
        "argument_structure/causative",
    ]


def test_the_supplement_has_a_phenomenon_a_file(tmp_path: Path):
    write_pairs(tmp_path / "supplement_filtered" / "hypernym.jsonl")
    task = find_tasks(["blimp_supplement"], {})[0].task
    assert isinstance(task, MinimalPairs)
    assert task.pairs(tmp_path).paradigms == ["hypernym"]


def test_missing_pairs_are_named_with_where_to_get_them(tmp_path: Path):
    task = find_tasks(["blimp"], {})[0].task
    with pytest.raises(MissingData, match=r"BLiMP: .*does not exist[\s\S]*blimp_filtered[\s\S]*github.com"):
        task.data_sha256(subject_of(None, tmp_path))


class FakeHub:
    """What is used of the library `datasets`."""

    class exceptions:
        class DatasetsError(Exception):
            pass

    @staticmethod
    def get_dataset_config_names(name: str) -> list[str]:
        return ["one", "two"]

    @staticmethod
    def load_dataset(name: str, config: str, split: str) -> list[dict[str, str]]:
        pair = {"sentence_good": f"the {config}", "sentence_bad": f"{config} the"}
        return [pair | {"linguistics_term": "s-selection"}]


def test_blimp_comes_from_the_hub_where_no_folder_is_named(monkeypatch):
    task = find_tasks(["blimp"], {})[0].task
    assert isinstance(task, MinimalPairs)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependency, match=r"nyu-mll/blimp[\s\S]*--data[\s\S]*pip install"):
        task.data_sha256(subject_of(None, None))
    monkeypatch.setitem(sys.modules, "datasets", FakeHub)
    assert len(task.data_sha256(subject_of(None, None))["nyu-mll/blimp"]) == 64
    assert task.pairs(None).paradigms == ["argument_structure/one", "argument_structure/two"]

    def unreachable(name: str) -> list[str]:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(FakeHub, "get_dataset_config_names", unreachable)
    with pytest.raises(MissingData, match=r"nyu-mll/blimp can't be read[\s\S]*--data"):
        task.pairs(None)


def test_a_model_without_a_head_is_refused(tmp_path: Path, tokenizer):
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    AutoModel.from_config(config).save_pretrained(tmp_path / "body")
    save_tokenizer(tokenizer, tmp_path / "body")
    subject = EvaluatedModel(tmp_path / "body", data=write_pairs(tmp_path / "pairs.jsonl"), device=torch.device("cpu"))
    with pytest.raises(EvaluationError, match="vocabulary head"):
        MinimalPairs().evaluate(subject, seed=1)


@pytest.mark.data
@pytest.mark.skipif(not BLIMP.exists(), reason="no shared data folder beside the checkout")
def test_the_real_blimp_has_twelve_phenomena(model: MaskedLanguageModel, tmp_path: Path):
    with zipfile.ZipFile(BLIMP) as archive:
        archive.extractall(tmp_path, [name for name in archive.namelist() if name.startswith("data/")])
    task = find_tasks(["blimp"], {"max_pairs": 1})[0].task
    assert isinstance(task, MinimalPairs)
    pairs = task.pairs(tmp_path)
    assert len(pairs) == 67_000
    assert set(np.bincount(pairs.paradigm_index)) == {1000}
    # The counts of Warstadt et al. 2020, table 1.
    assert Counter(name.partition("/")[0] for name in pairs.paradigms) == {
        "anaphor_agreement": 2,
        "argument_structure": 9,
        "binding": 7,
        "control_raising": 5,
        "determiner_noun_agreement": 8,
        "ellipsis": 2,
        "filler_gap_dependency": 7,
        "irregular_forms": 2,
        "island_effects": 8,
        "npi_licensing": 7,
        "quantifiers": 4,
        "subject_verb_agreement": 6,
    }
    result = task.evaluate(subject_of(model, tmp_path), seed=1)
    assert result.scores["num_pairs"] == 67
    assert sum("/" not in name for name in result.groups) == 12
