"""The benchmark for GPUs runs on a CPU too, at tiny sizes, so that it works the first time where a GPU is lent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_a_dry_run_leaves_a_whole_record(tmp_path):
    record = tmp_path / "records" / "gpu.json"
    ended = subprocess.run(
        [ROOT / "benchmarks" / "gpu.sh", record, "--dry-run"], env=ENVIRONMENT, capture_output=True, text=True
    )
    found = json.loads(record.read_text(encoding="utf-8"))
    assert ended.returncode == 0, found["stages"]
    assert {name: stage["exit"] for name, stage in found["stages"].items()} == dict.fromkeys(
        ("numerics", "tests", "compile", "speed"), 0
    )
    cases = {(case["dtype"], case["compiled"]) for case in found["numerics"]["cases"] if case["is_right"]}
    assert len(cases) == 4
    assert "skipped" in found["tests"]["summary"]
    for pair in found["speed"]["pairs"]:
        speeds = pair["tokens_per_second"]
        assert len(speeds["ours"]) == len(speeds["rival"]) == len(pair["ratio_by_round"]) == 2
        assert pair["utilisation"]["ours"] > 0 and pair["mean_context"]["ours"] <= pair["length"]
    assert [pair["size"] for pair in found["speed"]["pairs"]] == ["base", "large"]
    assert found["speed"]["bars"]["tokens_per_second"]["is_reached"] is None, "a CPU has no bar"
    assert found["is_dry_run"] and found["environment"]["torch"]


def test_a_stage_whose_time_is_up_is_in_the_record_and_so_are_the_others(tmp_path):
    record = tmp_path / "gpu.json"
    (tmp_path / "speed.json").write_text('{"pairs": []}')
    for stage, status in (("numerics", "124 100"), ("speed", "0 9")):
        (tmp_path / f"{stage}.status").write_text(status)
        (tmp_path / f"{stage}.log").write_text("the last words of a stage")
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", "gather", "--dry-run"]
    ended = subprocess.run([*command, "--parts", tmp_path, "--record", record], env=ENVIRONMENT, capture_output=True)
    assert ended.returncode == 1
    found = json.loads(record.read_text(encoding="utf-8"))
    assert found["stages"]["numerics"]["error"] == "its time was up"
    assert found["stages"]["numerics"]["log"] == "the last words of a stage"
    assert found["speed"] == {"pairs": []} and "error" not in found["stages"]["speed"]
