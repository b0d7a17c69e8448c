"""Submissions to the BabyLM challenge: forms, texts, ids and counts as the organisers' scripts make and check them."""

import gzip
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from maskwright.core.errors import EvaluationError
from maskwright.core.records.evaluation import EvaluationRecord, SeedRecord
from maskwright.evaluation.babylm import years
from maskwright.evaluation.babylm.submission import write_submission
from maskwright.evaluation.babylm.years import BLIMP, SUPPLEMENT, YEARS
from maskwright.evaluation.catalogue import find_tasks
from maskwright.evaluation.items import Items
from maskwright.evaluation.run_tasks import EvaluationFolder, evaluate

FILTERED = Path(__file__).parents[5] / "shared" / "data" / "babylm_eval" / "babylm_eval_2025.tar.xz"

ADJUNCT = [
    ("The court dismissed the appeal.", "The court appeal the dismissed."),
    ("She closed the door.", "She the door closed."),
    ("Nobody knew why.", "Nobody knew why."),
]
HYPERNYM = [("A small dog slept.\nIt slept.", "A small slept dog.\nIt slept.")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Filtered BLiMP and supplement as the challenge lays them out, but for their size."""
    for folder, file, pairs in (
        ("blimp_filtered", "adjunct_island", ADJUNCT),
        ("blimp_filtered", "principle_A_case_1", ADJUNCT[:2]),
        ("supplement_filtered", "hypernym", HYPERNYM),
    ):
        rows = [
            {"sentence_good": good, "sentence_bad": bad, "field": "syntax", "linguistics_term": "island", "UID": file}
            for good, bad in pairs
        ]
        (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
        path = tmp_path / "data" / folder / f"{file}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "data"


@pytest.fixture
def scored(model, make_subject, data, tmp_path):
    """Return a function that scores the pairs and returns the folder of the evaluation."""

    def score(**settings: object) -> Path:
        tasks = find_tasks(["blimp", "blimp_supplement"], settings)
        evaluate(make_subject(model, data=data), tasks, tmp_path / "evaluation", 1)
        return tmp_path / "evaluation"

    return score


def fine_tuned(evaluation: Path, task: str, predictions: dict[int, list[int]]) -> None:
    """Write what a fine-tuned task leaves: seed -> predicted labels."""
    for seed, labels in predictions.items():
        ids = np.array([str(number) for number in range(len(labels))])
        columns = {"prediction": np.array(labels), "target": np.zeros(len(labels), dtype=np.int64)}
        Items(ids, columns, np.zeros(len(labels), dtype=np.int64)).write(EvaluationFolder(evaluation).items(task, seed))
    EvaluationRecord(
        task=task,
        kind="classification",
        model="model",
        model_sha256="a" * 64,
        settings={},
        scores={"accuracy": 0.5},
        seeds=[SeedRecord(seed=seed, scores={"accuracy": 0.5}, seconds=1.0) for seed in predictions],
        environment={},
        seconds=1.0,
    ).write(EvaluationFolder(evaluation).record(task))


def preferred(evaluation: Path, task: str) -> dict[str, bool]:
    """Return for each pair, by id, whether the model does not prefer the bad sentence."""
    lines = (evaluation / "items" / f"{task}.seed-1.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {row["id"]: row["good_log_likelihood"] >= row["bad_log_likelihood"] for row in rows}


def of_part(problems, part: str) -> list[str]:
    return [str(problem) for problem in problems if problem.part == part]


@pytest.mark.parametrize("year", [2025, 2026])
def test_the_form_of_2025(scored, data, tmp_path, year):
    evaluation = scored()
    fine_tuned(evaluation, "rte", {12: [0, 1] * 69 + [1], 13: [1] * 139})
    submission = write_submission(evaluation, data, year, tmp_path / "out", "mine")
    assert submission.path == tmp_path / "out" / "all_full_preds_and_fast_scores_mlm.json"
    whole = json.loads(submission.path.read_text())
    assert set(whole) == {"blimp", "blimp_supplement", "glue"}
    better = preferred(evaluation, "blimp")
    assert whole["blimp"]["adjunct_island"]["predictions"] == [
        {"id": f"adjunct_island_{number}", "pred": good if better[f"adjunct_island:{number}"] else bad}
        for number, (good, bad) in enumerate(ADJUNCT)
    ]
    assert set(whole["blimp"]) == {"adjunct_island", "principle_A_case_1"}
    assert whole["glue"]["rte"]["predictions"][:2] == [{"id": "rte_0", "pred": 0}, {"id": "rte_1", "pred": 1}]
    assert submission.num_predictions == 3 + 2 + 1 + 139
    assert of_part(submission.problems, "glue/rte") == []
    assert "0 items, expected 4,908" in of_part(submission.problems, "glue/mnli")[0]
    assert "3 items, expected 928" in of_part(submission.problems, "blimp/adjunct_island")[0]
    absent = {"ewok", "entity_tracking", "wug_adj", "wug_past", "comps", "reading", "aoa", "fast_eval_results"}
    assert absent <= {problem.part for problem in submission.problems}
    assert "huggingface.co/datasets/ewok-core" in of_part(submission.problems, "ewok")[0]


def test_a_tie_goes_to_the_good_sentence(scored, data, tmp_path):
    evaluation = scored()
    path = evaluation / "items" / "blimp.seed-1.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    tied = [row | {"good_log_likelihood": -7.5, "bad_log_likelihood": -7.5} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in tied))
    (evaluation / "seeds" / "blimp.seed-1.json").unlink()  # which has the checksum of the items
    submission = write_submission(evaluation, data, 2025, tmp_path / "out", "mine")
    predictions = json.loads(submission.path.read_text())["blimp"]["adjunct_island"]["predictions"]
    assert [row["pred"] for row in predictions] == [good for good, _ in ADJUNCT]


def test_what_was_not_scored_is_told_once(tmp_path):
    fine_tuned(tmp_path, "rte", {12: [0] * 139})
    problems = write_submission(tmp_path, None, 2025, tmp_path / "out", "mine").problems
    assert len([problem for problem in problems if problem.part.startswith("blimp/")]) == 0
    assert "blimp was not scored, expected 59,875 items" in of_part(problems, "blimp")[0]


def test_another_seed(scored, data, tmp_path):
    evaluation = scored()
    fine_tuned(evaluation, "rte", {12: [0] * 139, 13: [1] * 139})
    submission = write_submission(evaluation, data, 2025, tmp_path / "out", "mine", seed=13)
    assert json.loads(submission.path.read_text())["glue"]["rte"]["predictions"][0]["pred"] == 1
    with pytest.raises(EvaluationError, match="not run with the seed 7"):
        write_submission(evaluation, data, 2025, tmp_path / "out", "mine", seed=7)


def test_the_form_of_2024(scored, data, tmp_path):
    evaluation = scored(leading_space=True)
    fine_tuned(evaluation, "mnli_mm", {12: [2] * 4916})
    submission = write_submission(evaluation, data, 2024, tmp_path / "out", "mine")
    assert submission.path.name == "mine_textonly_predictions.json.gz"
    whole = json.loads(gzip.decompress(submission.path.read_bytes()))
    first = whole["blimp_supplement"]["hypernym"]["predictions"][0]
    assert first["id"] == "hypernym_0"
    assert first["pred"] in [f" {sentence}" for sentence in HYPERNYM[0]]
    assert whole["glue"]["mnli-mm"]["predictions"][-1] == {"id": "mnli-mm_4915", "pred": 2}
    assert of_part(submission.problems, "glue/mnli-mm") == []
    before = submission.path.read_bytes()
    write_submission(evaluation, data, 2024, tmp_path / "out", "mine")
    assert submission.path.read_bytes() == before


def test_the_form_of_2023(scored, data, tmp_path):
    (data / "blimp_filtered" / "adjunct_island.jsonl").rename(data / "blimp_filtered" / "island_effects.jsonl")
    (data / "blimp_filtered" / "principle_A_case_1.jsonl").unlink()
    evaluation = scored(leading_space=True)
    fine_tuned(evaluation, "cola", {12: [1] * 1019})
    submission = write_submission(evaluation, data, 2023, tmp_path / "out", "mine")
    assert submission.path.name == "all_predictions.json"
    lines = [json.loads(line) for line in submission.path.read_text().splitlines()]
    assert [(line["task"], line["sub_task"]) for line in lines] == [
        ("glue", "cola"),
        ("blimp", "island_effects"),
        ("supplement", "hypernym"),
    ]
    assert lines[0]["predictions"][0] == {"id": "cola_0", "pred": "1"}
    assert lines[1]["predictions"][2] == {"id": "island_effects_2", "pred": ADJUNCT[2][0]}
    assert of_part(submission.problems, "blimp/island_effects") == []
    assert "0 items, expected some" in of_part(submission.problems, "blimp/anaphor_agreement")[0]
    assert "8 more parts" in of_part(submission.problems, "blimp")[0]


def test_pairs_scored_in_another_way_are_told(scored, data, tmp_path):
    evaluation = scored(mode="within_word_l2r")
    problems = write_submission(evaluation, data, 2024, tmp_path / "out", "mine").problems
    told = " ".join(of_part(problems, "blimp"))
    assert "within_word_l2r" in told
    assert "without a space" in told
    assert "--set blimp.leading_space=true" in told


def test_hybrids_are_handed_in_under_their_backend(scored, data, tmp_path):
    submission = write_submission(scored(mode="mntp"), data, 2025, tmp_path / "out", "mine")
    assert submission.path.name == "all_full_preds_and_fast_scores_mntp.json"
    assert not any("scored in" in told for told in of_part(submission.problems, "blimp"))


def test_a_complete_submission_has_no_problem(scored, data, tmp_path, monkeypatch):
    counts = {"adjunct_island": 3, "principle_A_case_1": 2}
    parts = (
        years.PairsPart("blimp", "blimp", counts),
        years.PairsPart("supplement", "blimp_supplement", {"hypernym": 1}),
    )
    monkeypatch.setattr(years, "YEARS", {2025: years.ChallengeYear("json", False, {"original": "mlm"}, parts)})
    assert write_submission(scored(), data, 2025, tmp_path / "out", "mine").problems == []


def test_other_data_than_was_scored_is_refused(scored, data, tmp_path):
    evaluation = scored()
    path = data / "blimp_filtered" / "adjunct_island.jsonl"
    path.write_text(path.read_text().replace("court", "judge"))
    with pytest.raises(EvaluationError, match=r"adjunct_island\.jsonl is not the data that was scored"):
        write_submission(evaluation, data, 2025, tmp_path / "out", "mine")


def test_nothing_to_hand_in_and_no_such_year(tmp_path):
    with pytest.raises(EvaluationError, match="holds nothing"):
        write_submission(tmp_path, None, 2025, tmp_path / "out", "mine")
    with pytest.raises(EvaluationError, match="2023, 2024, 2025, 2026"):
        write_submission(tmp_path, None, 2022, tmp_path / "out", "mine")
    assert not (tmp_path / "out").exists()


def test_every_part_is_a_task_that_there_is():
    for year in YEARS.values():
        for part in year.parts:
            names = [part.task] if isinstance(part, years.PairsPart) else []
            names += part.tasks.values() if isinstance(part, years.LabelsPart) else []
            if names:
                assert len(find_tasks(names, {})) == len(names)


@pytest.mark.data
@pytest.mark.skipif(not FILTERED.exists(), reason="no shared data folder beside the checkout")
def test_counts_are_those_of_the_filtered_sets():
    found: Counter[str] = Counter()
    with tarfile.open(FILTERED) as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.name.endswith(".jsonl") else None
            if stream is not None:
                found[Path(member.name).stem] += sum(1 for line in stream if line.strip())
    assert found == BLIMP | SUPPLEMENT
