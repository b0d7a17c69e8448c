"""What training writes of its steps is on the disk before a checkpoint says so."""

import hashlib
import os
from types import SimpleNamespace

from maskwright.training.watching.metrics import MetricsLog


def test_lines_are_on_the_disk_before_their_checksum_is_known(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, tmp_path / "tensorboard", 0)
    synced = []
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    log.after_step(SimpleNamespace(state=SimpleNamespace(step=1), figures={"loss": 1.5}))  # pyright: ignore
    checksum = log.sync()
    log.close()
    assert synced == [path.stat().st_size]
    assert checksum == hashlib.sha256(path.read_bytes()).hexdigest()
