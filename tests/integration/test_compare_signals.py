"""Ctrl-C during a comparison: the run that is under way is saved by its own process, and what goes on is told."""

import json
import signal
import time

import pytest
import yaml
from tests.integration.test_signals import endless, started

__all__ = ["endless", "started"]


@pytest.mark.slow
def test_ctrl_c_saves_the_run_and_says_how_to_go_on(started, endless, tmp_path):
    raw = {"comparison": "Endless", "recipe": endless.name, "arms": [{"name": "a"}, {"name": "b"}]}
    (tmp_path / "comparison.yaml").write_text(yaml.safe_dump(raw))
    process = started("compare", "comparison.yaml", "--out", "out")
    run = tmp_path / "out" / "runs" / "a-seed1"
    end = time.monotonic() + 240  # two processes start, one after the other
    while not list(run.glob("checkpoints/step-*")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
    assert "go on with the comparison: maskwright compare comparison.yaml --out out" in err
    assert not (tmp_path / "out" / "runs" / "b-seed1").exists()
