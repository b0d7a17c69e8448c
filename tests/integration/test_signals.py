"""Ctrl-C and SIGTERM: training saves and says how to go on; a second time it stops at once; nothing is half written."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from maskwright.training.checkpoint import Checkpoints, damage
from maskwright.training.safety.interrupts import Interrupts


@pytest.fixture
def started(tmp_path: Path):
    """Return a function that starts the command line in a process of its own."""
    processes = []
    # A shell ignores Ctrl-C in what it runs in the background, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "maskwright", *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=tmp_path)
        processes.append(process)
        return process

    yield start
    signal.signal(signal.SIGINT, before)
    for process in processes:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def endless(tmp_path: Path, raw_recipe) -> Path:
    """A recipe that would train for hours and saves after every step."""
    changes = {"budget": {"steps": 1_000_000}, "checkpoints": {"every_steps": 1}, "probes": {}}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**raw_recipe, **changes}))
    return path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_training_saves_and_says_how_to_go_on(started, endless, tmp_path, number):
    run = tmp_path / "run"
    process = started("train", endless, "--run", run)
    checkpoints = Checkpoints(run / "checkpoints", 2, True)
    wait_for(lambda: len(checkpoints.steps()) > 1, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert f"maskwright train --run {run} --resume" in err.replace("\n", "")
    last = checkpoints.steps()[-1]
    assert damage(checkpoints.path(last)) is None
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert record["result"]["step"] == last
    lines = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(range(1, last + 1))


def test_ctrl_c_twice_stops_at_once(started, endless, tmp_path):
    run = tmp_path / "run"
    # Steps of several seconds, so that the second signal meets one that is under way.
    process = started("train", endless, "--run", run, "--set", "batch.tokens=256000")
    checkpoints = Checkpoints(run / "checkpoints", 2, True)
    wait_for(checkpoints.steps, process)
    before = checkpoints.steps()
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - begin < 2
    assert process.returncode == 128 + signal.SIGINT
    assert "stopped at once; the last checkpoint is whole" in err
    assert checkpoints.steps() == before
    assert [damage(checkpoints.path(step)) for step in before] == [None]


@pytest.mark.parametrize("number", Interrupts.SIGNALS, ids=[each.name for each in Interrupts.SIGNALS])
def test_preparation_leaves_nothing_half_written(started, endless, tmp_path, number):
    text = tmp_path / "long.txt"
    text.write_text("".join(f"The court heard appeal {number} of the company.\n" for number in range(500_000)))
    out = tmp_path / "out"
    settings = ["--set", "tokenizer.sample_bytes=100000"]
    process = started("prepare", endless, "--data", text, "--out", out, *settings)
    wait_for(lambda: list(out.glob(".tmp-*/*.tokens")), process)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "nothing is half written" in err
    assert "Traceback" not in err
    assert all(path.name.endswith(".lock") for path in out.iterdir())
