"""Comparing recipes: what all runs share, what is used again, what goes on, what fails, and what is refused."""

import json
import shlex
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file
from tests.conftest import raw_record
from tests.integration.conftest import TINY_ENCODER, written

from maskwright.comparison import run_comparison as comparing
from maskwright.comparison.asked import read_comparison, resolved_arms
from maskwright.comparison.comparison_options import ComparisonOptions
from maskwright.comparison.process import ProcessResult
from maskwright.core.records.comparison import RecipeComparisonRecord
from maskwright.core.records.evaluation import EvaluationRecord
from maskwright.core.records.run import RunRecord
from maskwright.evaluation.items import Items
from maskwright.evaluation.significance import estimate_difference, holm

FINE_TUNING = {"epochs": 1, "max_length": 16, "precision": "float32"}

ARMS = ("rate 15 %", "rate 40 %")


def toy_recipe(text_file: Path) -> dict[str, Any]:
    """A recipe of six steps in a second."""
    return {
        "name": "toy",
        "data": {"data": str(text_file), "held_out_fraction": 0.1},
        "tokenizer": {"vocabulary_size": 120},
        "encoder": {"size": None, "overrides": TINY_ENCODER},
        "budget": {"steps": 6},
        "phases": [{"objective": {"name": "mlm", "rate": 0.15}, "sequence_length": 32}],
        "batch": {"tokens": 256, "micro_batch_tokens": 256},
        "engine": {"device": "cpu", "dtype": "float32", "compile": "off"},
        "checkpoints": {"every_steps": 2, "every_minutes": None, "keep_last": 9},
        "probes": {"every_steps": 2, "tokens": 256, "max_share": None},
    }


def comparison_file(folder: Path, text_file: Path, **changes: Any) -> Path:
    """Write a comparison of two mask rates with two seeds, and its recipe."""
    written(folder / "toy.yaml", toy_recipe(text_file))
    arms = [
        {"name": name, "set": {"phases.0.objective.rate": rate}} for name, rate in zip(ARMS, (0.15, 0.4), strict=True)
    ]
    raw = {
        "comparison": "Rates",
        "recipe": "toy.yaml",
        "seeds": 2,
        "task_settings": {"word_order.num_pairs": 20},
        "arms": arms,
    }
    return written(folder / "rates.yaml", raw | changes)


class Launches(list[list[str]]):
    """Trains in this process, as a process of its own would, and remembers what was asked for."""

    def __init__(self, maskwright: Callable[..., Any]) -> None:
        self.maskwright = maskwright
        self.instead: Callable[[Sequence[str]], ProcessResult | None] = lambda arguments: None

    def __call__(self, arguments: Sequence[str]) -> ProcessResult:
        self.append(list(arguments))
        return self.instead(arguments) or ProcessResult(self.maskwright(*arguments).code)


@pytest.fixture
def launches(maskwright, monkeypatch) -> Launches:
    found = Launches(maskwright)
    monkeypatch.setattr(comparing, "launch", found)
    return found


@pytest.fixture(scope="module")
def compared(tmp_path_factory, text_file, maskwright) -> Path:
    """A comparison of two arms with two seeds in OUT, its file beside it. Not to be changed."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "launch", Launches(maskwright))
        said = maskwright("compare", comparison_file(folder, text_file), "--out", folder / "out")
    assert said.code == 0, said.err
    assert "Against rate 15 %" in said.out
    return folder


@pytest.fixture
def copied(compared: Path, tmp_path: Path) -> Path:
    """The comparison in the same place as it was, to be changed; afterwards it is as before."""
    shutil.copytree(compared, tmp_path / "kept")
    yield compared
    shutil.rmtree(compared)
    shutil.copytree(tmp_path / "kept", compared)


def record_in(folder: Path) -> RecipeComparisonRecord:
    return RecipeComparisonRecord.read(folder / "out" / "comparison.json")


def without_clocks(record: RecipeComparisonRecord) -> dict[str, Any]:
    """Return a record without what depends on the time it took."""
    values = record.model_dump()
    for arm in values["arms"]:
        for run in arm["runs"]:
            run["seconds"] = run["kwh"] = None
            for point in run["curve"]:
                del point["seconds"]
    return values


def test_all_runs_share_text_order_and_questions(compared):
    runs = {path.name: RunRecord.read(path / "run.json") for path in (compared / "out" / "runs").iterdir()}
    assert sorted(runs) == ["rate-15-seed1", "rate-15-seed2", "rate-40-seed1", "rate-40-seed2"]
    assert len({record.corpus_sha256 for record in runs.values()}) == 1
    assert len(list((compared / "out" / "corpora").glob("*/manifest.json"))) == 1
    assert {record.recipe["seed"] for record in runs.values()} == {1, 2}
    items = [
        Items.read(compared / "out" / "evaluation" / name / "items" / "held_out.seed-1.jsonl") for name in sorted(runs)
    ]
    for other in items[1:]:
        assert np.array_equal(items[0].ids, other.ids)
        assert np.array_equal(items[0].columns["num_scored_tokens"], other.columns["num_scored_tokens"])


def test_equal_seeds_read_the_same_tokens_whatever_the_rate(compared):
    """Beside the record of the comparison: the streams themselves."""
    from maskwright.core.ranks import Ranks
    from maskwright.corpus.corpus import open_corpus
    from maskwright.training.model import build_model
    from maskwright.training.recipe.recipe import parse_recipe
    from maskwright.training.step_batches import StepBatches
    from maskwright.training.timeline import Course

    def clean(name: str) -> np.ndarray:
        record = RunRecord.read(compared / "out" / "runs" / name / "run.json")
        recipe, corpus = parse_recipe(record.recipe, name), open_corpus(Path(record.corpus), verify=False)
        objective = build_model(recipe, corpus.vocabulary).objective
        batches = StepBatches(recipe, corpus, Course((6,)), Ranks())
        return np.concatenate([batches(step, objective)[0].clean.token_ids_T.numpy() for step in range(6)])

    assert np.array_equal(clean("rate-15-seed1"), clean("rate-40-seed1"))
    assert not np.array_equal(clean("rate-15-seed1"), clean("rate-15-seed2"))


def test_means_deviations_and_evidence_are_those_of_direct_calls(compared):
    record = record_in(compared)
    folder = compared / "out" / "evaluation"

    def nats(items: Items) -> float:
        return items.columns["nats"].sum() / items.columns["num_scored_tokens"].sum()

    def accuracy(items: Items) -> float:
        return items.columns["credit"].mean()

    p_values = []
    for measure, score in (("held_out", nats), ("word_order", accuracy)):
        of_arm = [
            {seed: Items.read(folder / f"{arm}-seed{seed}" / "items" / f"{measure}.seed-1.jsonl") for seed in (1, 2)}
            for arm in ("rate-15", "rate-40")
        ]
        for arm, items in zip(record.arms, of_arm, strict=True):
            values = [score(one) for one in items.values()]
            assert arm.scores[measure].mean == pytest.approx(np.mean(values))
            assert arm.scores[measure].deviation == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2))
        direct = estimate_difference(score, of_arm[1], of_arm[0], seed=1, num_resamples=record.num_resamples)
        (row,) = [row for row in record.differences if row.measure == measure]
        assert (row.arm, row.num_seeds, row.is_paired) == ("rate 40 %", 2, True)
        assert row.difference == pytest.approx(direct.value)
        assert row.interval == pytest.approx(direct.interval)
        assert (row.p_items, row.p_seeds) == (direct.p_items, direct.p_seeds)
        p_values.append(direct.p)
    assert [row.p_corrected for row in record.differences] == holm(p_values)


def test_learning_curves_are_those_of_the_runs_logs(compared):
    for arm in record_in(compared).arms:
        for run in arm.runs:
            lines = map(json.loads, (compared / "out" / run.folder / "metrics.jsonl").read_text().splitlines())
            probed = [line for line in lines if "held_out_cross_entropy" in line]
            assert [line["step"] for line in probed] == [2, 4, 6]
            for point, line in zip(run.curve, probed, strict=True):
                assert run.flops is not None
                assert point.flops == pytest.approx(run.flops * line["step"] / 6)
                assert (point.tokens, point.seconds, point.cross_entropy) == (
                    *(line["tokens"], line["seconds"], line["held_out_cross_entropy"]),
                )


def test_costs_are_those_of_the_runs(compared):
    for arm in record_in(compared).arms:
        for run in arm.runs:
            of_run = RunRecord.read(compared / "out" / run.folder / "run.json")
            assert of_run.result is not None and of_run.energy is not None
            assert (run.num_steps, run.num_tokens) == (6, of_run.result.num_tokens)
            assert run.flops == of_run.plan.total_flops
            assert (run.seconds, run.kwh) == (of_run.result.seconds, of_run.energy.kwh)


def test_what_is_there_is_used_again(compared, launches, maskwright):
    before = (compared / "out" / "comparison.json").read_bytes(), (compared / "out" / "compare.html").read_bytes()
    said = maskwright("compare", compared / "rates.yaml", "--out", compared / "out")
    assert said.code == 0, said.err
    assert launches == []
    assert said.err.count("finished: used again") == 4
    assert (compared / "out" / "comparison.json").read_bytes() == before[0]
    assert (compared / "out" / "compare.html").read_bytes() == before[1]


def test_more_seeds_and_other_tasks_keep_the_runs(copied, launches, maskwright):
    out = copied / "out"
    said = maskwright("compare", copied / "rates.yaml", "--out", out, "--seeds", 3, "--tasks", "held_out")
    assert said.code == 0, said.err
    assert [arguments[-1] for arguments in launches] == [str(out / "runs" / f"rate-{rate}-seed3") for rate in (15, 40)]
    (row,) = record_in(copied).differences
    assert row.p_seeds is not None
    assert row.p_corrected == max(row.p_items or 0, row.p_seeds)


def test_a_run_that_was_killed_goes_on_to_the_same_end(copied, launches, maskwright):
    out = copied / "out"
    before, run = record_in(copied), out / "runs" / "rate-40-seed1"
    weights = load_file(run / "checkpoints" / "step-000006" / "model.safetensors")
    shutil.rmtree(run / "checkpoints" / "step-000006")
    shutil.rmtree(run / "model")
    (run / "report.html").unlink()
    record = raw_record(run / "run.json")
    (run / "run.json").write_text(json.dumps(record | {"status": "running", "result": None}))
    assert "go on after step 4 of 6" in maskwright("compare", copied / "rates.yaml", "--out", out, "--dry-run").err
    said = maskwright("compare", copied / "rates.yaml", "--out", out)
    assert said.code == 0, said.err
    assert launches == [["train", "--run", str(run), "--resume"]]
    after = load_file(run / "checkpoints" / "step-000006" / "model.safetensors")
    assert all(np.array_equal(weights[name], after[name]) for name in weights)
    assert without_clocks(record_in(copied)) == without_clocks(before)


def test_runs_of_another_recipe_are_not_taken_for_these(compared, launches, maskwright):
    said = maskwright("compare", compared / "rates.yaml", "--out", compared / "out", "--set", "optimizer.clip_norm=7")
    assert said.code == 78
    assert "optimizer.clip_norm" in said.err
    assert launches == []


def test_one_that_fails_does_not_lose_the_others(tmp_path, text_file, launches, maskwright):
    arms = [
        {"name": "sound"},
        {"name": "wild <b>", "set": {"optimizer.learning_rate": 1e30}},
        {"name": "slow", "set": {"optimizer.learning_rate": 1e-5}},
    ]
    path = comparison_file(tmp_path, text_file, arms=arms, seeds=1, tasks=["held_out"], task_settings={})
    said = maskwright("compare", path, "--out", tmp_path / "out")
    assert said.code == 72, said.err
    assert (
        "wild-b-seed1: A loss, gradient or weight was not finite; what was saved before is clean (exit code 70)"
        in said.err
    )
    record = record_in(tmp_path)
    sound, wild, slow = record.arms
    assert wild.scores == {} and "not finite" in str(wild.runs[0].problem)
    assert sound.scores["held_out"].num_runs == slow.scores["held_out"].num_runs == 1
    assert [row.arm for row in record.differences] == ["slow"]
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "1 of 3 runs failed" in page
    assert "wild <b>" not in page
    # Only what failed is tried again.
    launches.clear()
    assert maskwright("compare", path, "--out", tmp_path / "out").code == 72
    assert [arguments[-2] for arguments in launches] == [str(tmp_path / "out" / "runs" / "wild-b-seed1")]


def test_a_signal_stops_all_and_says_how_to_go_on(tmp_path, text_file, launches, maskwright):
    launches.instead = lambda arguments: ProcessResult(130, signal.SIGINT)
    path = comparison_file(tmp_path, text_file)
    said = maskwright("compare", path, "--out", tmp_path / "out", "--seeds", 2)
    assert said.code == 130
    assert len(launches) == 1
    assert f"maskwright compare {path} --seeds 2 --out {tmp_path / 'out'}" in said.err.replace("\n", "")
    assert not (tmp_path / "out" / "comparison.json").exists()


def test_runs_that_were_trained_before_are_scored_and_left_alone(compared, tmp_path, launches, maskwright):
    runs = compared / "out" / "runs"
    arms = [
        {"name": "first", "runs": [str(runs / f"rate-15-seed{seed}") for seed in (1, 2)]},
        {"name": "second", "runs": [str(runs / f"rate-40-seed{seed}") for seed in (1, 2)]},
    ]
    raw = {"comparison": "Again", "arms": arms, "task_settings": {"word_order.num_pairs": 20}}
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*.json")}
    said = maskwright(
        "compare", written(tmp_path / "again.yaml", raw), "--out", tmp_path / "out", "--baseline", "second"
    )
    assert said.code == 0, said.err
    assert launches == []
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*.json")} == before
    ours, theirs = record_in(tmp_path), record_in(compared)
    assert [arm.scores for arm in ours.arms] == [arm.scores for arm in theirs.arms]
    assert [-row.difference for row in ours.differences] == pytest.approx(
        [row.difference for row in theirs.differences]
    )


def test_a_dry_run_prints_commands_and_writes_nothing(tmp_path, text_file, launches, maskwright):
    path = comparison_file(tmp_path, text_file)
    before = sorted(tmp_path.rglob("*"))
    said = maskwright("compare", path, "--out", tmp_path / "out", "--tokens", 4096, "--dry-run")
    assert said.code == 0, said.err
    prepare, *lines = said.out.splitlines()  # commands alone, so that they can be kept as a script
    assert len(lines) == 4
    assert all(line.startswith("maskwright train ") for line in lines)
    assert """'budget={"tokens": 4096}'""" in lines[0]
    assert "4,096 tokens a run; scored by" in said.err
    assert prepare.startswith("maskwright prepare ")
    assert maskwright(*shlex.split(prepare)[1:]).out.strip() == shlex.split(lines[0])[-3]
    shutil.rmtree(tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before
    assert launches == []


def test_models_that_read_shorter_texts_are_asked_the_same(tmp_path, text_file, launches, maskwright):
    """Held-out text comes in pieces that all can read; sentences that only one could read are not paired."""
    arms = [{"name": "long"}, {"name": "short", "set": {"phases.0.sequence_length": 16}}]
    path = comparison_file(tmp_path, text_file, arms=arms, seeds=1)
    said = maskwright("compare", path, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    record = record_in(tmp_path)
    assert [row.measure for row in record.differences] == ["held_out"]
    assert any("can't be compared item by item" in note for note in record.notes)
    assert any("pieces of 16 tokens" in note for note in record.notes)
    assert any("another order" in note for note in record.notes)
    settings = [
        EvaluationRecord.read(tmp_path / "out" / "evaluation" / f"{arm}-seed1" / "held_out.json").settings
        for arm in ("long", "short")
    ]
    assert [each["used_sequence_length"] for each in settings] == [16, 16]


def test_a_phase_more_is_the_same_text_in_the_same_order_and_a_decoder_is_told(
    tmp_path, text_file, launches, maskwright
):
    late = {"objective": {"name": "late_mask"}, "sequence_length": 32}
    phases = [{"objective": {"name": "mlm"}, "sequence_length": 32}, late]
    path = comparison_file(
        tmp_path, text_file, arms=[{"name": "one"}, {"name": "two", "set": {"phases": phases}}], seeds=1
    )
    said = maskwright("compare", path, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    notes = record_in(tmp_path).notes
    assert any("read the same text in one order" in note for note in notes)
    assert any("which no export has: two." in note for note in notes)


def test_fine_tuning_has_an_average_and_a_run_its_own_seed(compared, tmp_path, launches, maskwright):
    rows = "text,label\n" + "".join(
        f"The {word} was here,{label}\n" for label, word in enumerate(("court", "judge")) for _ in range(9)
    )
    (tmp_path / "data.csv").write_text(rows)
    for name, training in (("one", FINE_TUNING), ("two", FINE_TUNING | {"learning_rate": 1e-3})):
        task = {"kind": "classification", "data": {"train": "data.csv", "test": "data.csv"}, "training": training}
        written(tmp_path / f"{name}.yaml", task)
    runs = compared / "out" / "runs"
    arms = [{"name": rate, "runs": [str(runs / f"rate-{rate}-seed{seed}") for seed in (1, 2)]} for rate in ("15", "40")]
    raw = {"comparison": "Tasks", "arms": arms, "tasks": ["one.yaml", "two.yaml"]}
    said = maskwright("compare", written(tmp_path / "tasks.yaml", raw), "--out", tmp_path / "out")
    assert said.code == 0, said.err
    record = record_in(tmp_path)
    assert [measure.name for measure in record.measures] == ["one", "two", "fine_tuning_average"]
    for arm in record.arms:
        for run in arm.runs:
            assert run.scores["fine_tuning_average"] == pytest.approx((run.scores["one"] + run.scores["two"]) / 2)
            folder = tmp_path / "out" / "evaluation" / f"{arm.name}-seed{run.seed}"
            one, two = (EvaluationRecord.read(folder / f"{name}.json") for name in ("one", "two"))
            assert one.seeds[0].seed == run.seed
            # Which learning rate is best is searched where nobody says it.
            assert (one.settings["training"]["preset"], two.settings["training"]["preset"]) == ("search", "default")
            assert len(one.settings["tried"]) == 3 and "tried" not in two.settings
    # Of a word that gives the class away a bag of words makes no mistake, so that no encoder can be better.
    assert {row.verdict for row in record.differences if row.measure != "fine_tuning_average"} == {"not informative"}
    assert any("is no better than the baseline bag of words (1.000)" in note for note in record.notes)
    average = record.differences[-1]
    assert (average.measure, average.p_corrected, average.verdict) == ("fine_tuning_average", None, "no test")


@pytest.mark.parametrize(
    ("arguments", "changes", "code", "parts"),
    [
        (["toy.yaml"], {}, 78, ["alone can't be compared"]),
        ([], {}, 78, ["nothing alone"]),
        (["toy.yaml", "toy.yaml"], {}, 78, ["two arms are named 'toy'", "--names"]),
        (["toy.yaml", "toy.yaml", "--names", "a"], {}, 78, ["2 names"]),
        (["toy.yaml", "rates.yaml"], {}, 78, ["rates.yaml", "alone"]),
        (["rates.yaml", "--names", "a,b"], {}, 78, ["--names"]),
        (["toy.yaml", "none.yaml"], {}, 78, ["none.yaml is no file"]),
        (["rates.yaml", "--baseline", "rate 14 %"], {}, 78, ["did you mean", "rate 15 %, rate 40 %"]),
        (["rates.yaml", "--tokens", "5", "--hours", "1"], {}, 78, ["exactly one"]),
        (["rates.yaml", "--hours", "-1"], {}, 78, ["--hours -1", "above nought"]),
        (["rates.yaml", "--seeds", "0"], {}, 78, ["1 or more"]),
        (["rates.yaml", "--tasks", "blmp"], {}, 78, ["did you mean 'blimp'"]),
        (["rates.yaml", "--tasks", "blimp", "--data", "."], {}, 68, ["blimp"]),
        (["rates.yaml", "--set", "nonsense=1"], {}, 78, ["nonsense"]),
        (["rates.yaml"], {"seeds": [1, 1]}, 78, ["different numbers"]),
        (["rates.yaml"], {"armz": []}, 78, ["armz", "did you mean 'arms'"]),
        (["rates.yaml"], {"arms": [{"name": "a"}]}, 78, ["two arms"]),
        (["rates.yaml"], {"arms": [{"name": "a b"}, {"name": "a-b"}]}, 78, ["punctuation"]),
        (["rates.yaml"], {"arms": [{"name": "a"}, {"runs": ["nowhere"]}]}, 66, ["nowhere"]),
        (["rates.yaml"], {"arms": [{}, {"runs": ["x"], "recipe": "toy.yaml"}]}, 78, ["runs with recipe"]),
        (
            ["rates.yaml"],
            {"arms": [{"name": "a"}, {"name": "b", "set": {"tokenizer.vocabulary_size": 200}}]},
            78,
            ["tokenizer.vocabulary_size is 120 in a and 200 in b", "same tokenizer"],
        ),
        (
            ["rates.yaml"],
            {"arms": [{"name": "a"}, {"name": "b", "set": {"data.held_out_fraction": 0.2}}]},
            78,
            ["data.held_out_fraction", "same text"],
        ),
        (
            ["rates.yaml"],
            {"arms": [{"name": "a"}, {"name": "b", "set": {"budget": {"tokens": 9000}}}]},
            78,
            ["budgets differ: a has 6 steps, b has 9,000 tokens", "--tokens"],
        ),
        (
            ["rates.yaml"],
            {"arms": [{"name": "a"}, {"name": "b", "set": {"batch.tokens": 512}}]},
            78,
            ["a step is 256 tokens in a and 512 in b"],
        ),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    arguments, changes, code, parts, tmp_path, text_file, launches, maskwright, monkeypatch
):
    comparison_file(tmp_path, text_file, **changes)
    monkeypatch.chdir(tmp_path)
    said = maskwright("compare", *arguments)
    assert said.code == code, said.err
    for part in parts:
        assert part in said.err, said.err
    assert len(said.err.splitlines()) <= 6
    assert launches == []
    assert not (tmp_path / "compare").exists()


def test_a_run_of_another_corpus_is_no_arm_for_its_held_out_text(compared, tmp_path, launches, maskwright, text_file):
    path = comparison_file(tmp_path, text_file)
    other = tmp_path / "other"
    settings = ["--set", "seed=5", "--set", "budget.steps=1"]
    assert maskwright("train", tmp_path / "toy.yaml", "--run", other, *settings).code == 0
    raw = yaml.safe_load(path.read_text()) | {"arms": [{"name": "a"}, {"runs": [str(other)]}], "seeds": 1}
    said = maskwright("compare", written(path, raw), "--out", tmp_path / "out")
    assert said.code == 78
    assert "trained on another corpus" in said.err
    assert launches == []


def test_an_arm_of_the_mask_rate_curve_trains(tmp_path, text_file, maskwright):
    path, how = Path(__file__).parents[2] / "comparisons" / "mask_rates.yaml", ComparisonOptions(tokens=256)
    arm = resolved_arms(read_comparison([path], how), how)[-1]
    small = {
        "data": {"data": str(text_file), "held_out_fraction": 0.1},
        "tokenizer.vocabulary_size": 120,
        "encoder": {"size": None, "overrides": TINY_ENCODER},
        "batch": {"tokens": 256, "micro_batch_tokens": 256},
        "engine": {"device": "cpu", "dtype": "float32", "compile": "off"},
    }
    settings = [*arm.settings, *(f"{key}={json.dumps(value)}" for key, value in small.items())]
    options = [part for setting in settings for part in ("--set", setting)]
    said = maskwright("train", arm.path, *options, "--run", tmp_path / "run")
    assert said.code == 0, said.err
    assert RunRecord.read(tmp_path / "run" / "run.json").recipe["phases"][0]["objective"]["rate"] == 0.6
