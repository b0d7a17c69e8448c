"""The race of the speedrun, small: both rivals set a target, and an entry runs against it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SPEEDRUN = ROOT / "benchmarks" / "speedrun"


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(SPEEDRUN / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_a_rival_sets_a_target_and_an_entry_runs_against_it(corpus, raw_recipe, tmp_path):
    entry = tmp_path / "entry.yaml"
    entry.write_text(yaml.safe_dump(raw_recipe | {"budget": {"steps": 2}, "probes": {}}))
    for track in ("dry-run-bert", "dry-run-best"):
        target, record = tmp_path / f"{track}.json", tmp_path / f"{track}-race.json"
        done = run("rivals.py", track, corpus.folder, "--record", target)
        assert done.returncode == 0, done.stderr
        aim = json.loads(target.read_text())
        assert len(aim["search"]) == 2 and aim["target"] == aim["rival"]["cross_entropy"]
        best = min(aim["search"], key=lambda each: each["cross_entropy"])
        assert (aim["rival"]["rate"], aim["rival"]["batch"]) == (best["rate"], best["batch"])
        assert 0 < aim["target"] < 20 and aim["rival"]["steps"] >= 1
    aim["target"] = 100.0
    target.write_text(json.dumps(aim))
    done = run("race.py", target, corpus.folder, entry, "--seeds", 2, "--record", record)
    assert done.returncode == 0, done.stderr
    found = json.loads(record.read_text())
    assert found["is_reached"] and found["p_value"] < 0.01 and [each["seed"] for each in found["runs"]] == [1, 2]
    target.write_text(json.dumps(aim | {"content_sha256": "another"}))
    done = run("race.py", target, corpus.folder, entry, "--record", record)
    assert done.returncode == 1 and "the rules fix it" in done.stderr
