"""Killed without warning at random moments, a run goes on by itself to the same end."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tests.resume.conftest import outcome

MASKWRIGHT = [sys.executable, "-c", "from maskwright.cli.main import main; main()"]
NUM_KILLS = 6


def command(*arguments: object) -> list[str]:
    return [*MASKWRIGHT, *map(str, arguments)]


@pytest.fixture
def recipe(tmp_path: Path, raw_recipe) -> Path:
    path = tmp_path / "recipe.yaml"
    changes = {"budget": {"steps": 60}, "checkpoints": {"every_steps": 1, "every_minutes": None}}
    path.write_text(yaml.safe_dump({**raw_recipe, **changes}), encoding="utf-8")
    return path


@pytest.mark.slow
def test_random_kills(tmp_path, recipe):
    subprocess.run(command("train", recipe, "--run", tmp_path / "straight"), check=True, capture_output=True)
    run = tmp_path / "killed"
    chance = random.Random(0)
    arguments: tuple[object, ...] = (recipe, "--run", run)
    num_kills = 0
    for _ in range(NUM_KILLS + 20):
        process = subprocess.Popen(command("train", *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if num_kills < NUM_KILLS:
            before = newest_step(run)
            while process.poll() is None and newest_step(run) < before + 3:
                time.sleep(0.01)
            time.sleep(chance.random() * 0.1)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                num_kills += 1
        output = process.communicate()[0].decode()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, output
        arguments = ("--run", run, "--resume")
    assert num_kills == NUM_KILLS
    assert outcome(run) == outcome(tmp_path / "straight")
    assert [path for path in run.rglob(".*") if path.name.startswith((".tmp-", ".del-"))] == []
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


def newest_step(run: Path) -> int:
    checkpoints = run / "checkpoints"
    steps = [int(folder.name[5:]) for folder in checkpoints.glob("step-*")] if checkpoints.exists() else []
    return max(steps, default=0)
