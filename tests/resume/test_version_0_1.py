"""Runs that version 0.1 began go on bit for bit: their records and checkpoints have other names for some things."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import raw_record
from tests.resume.conftest import outcome

from maskwright.core.errors import CheckpointError
from maskwright.core.records.run import RunFolder
from maskwright.training.checkpoint import MODEL, OPTIMIZER, Checkpoints, load_state
from maskwright.training.trained_run import require_same_updates

NAMES = {
    r"^objective\.decoder\.extra_blocks\.": "objective.decoder_blocks.",
    r"\.decoder\.mask_vector$": ".mask_vector",
    r"^objective\.": "objective_0.",
}
"""What tensors are called, as patterns, and what version 0.1 called them."""

OF_OTHER_PHASES = {"objective_1.some_weight": torch.ones(3)}
"""What stands for the other phases' objectives, which the checkpoints of version 0.1 held as well."""

PHASES = {
    "mlm": [{"objective": {"name": "mlm"}, "sequence_length": 32}],
    "late_mask": [{"objective": {"name": "late_mask"}, "sequence_length": 32}],
    "late_mask_then_mlm": [{"objective": {"name": name}, "sequence_length": 32} for name in ("late_mask", "mlm")],
}


def old_name(name: str) -> str:
    for pattern, replacement in NAMES.items():
        name = re.sub(pattern, replacement, name)
    return name


def as_written_by_version_0_1(run: RunFolder, step: int) -> None:
    """Give a run the record and the one checkpoint that version 0.1 would have left after some steps."""
    record: dict[str, Any] = raw_record(run.run_record)
    for phase in record["plan"]["phases"]:
        phase["masks_at_input"] = phase.pop("fills_masks") == "encoder"
    for phase in record["recipe"]["phases"]:
        del phase["objective"]["terms"]
    run.run_record.write_text(json.dumps(record))
    checkpoints = Checkpoints(run.checkpoints, keep_last=1, keep_best=False)
    path = checkpoints.path(step)
    model = {old_name(name): tensor for name, tensor in load_file(path / MODEL).items()}
    optimizer = {
        "/".join(map(old_name, name.split("/"))): tensor for name, tensor in load_file(path / OPTIMIZER).items()
    }
    model |= OF_OTHER_PHASES
    optimizer |= {f"adamw/{name}/exp_avg": tensor for name, tensor in OF_OTHER_PHASES.items()}
    state = load_state(path).model_copy(update={"phase": None})
    for later in checkpoints.steps():
        for file in checkpoints.path(later).iterdir():
            file.unlink()
        checkpoints.path(later).rmdir()
    checkpoints.save(model, optimizer, state)


@pytest.mark.parametrize("kind", PHASES)
def test_a_run_of_version_0_1_goes_on_bit_for_bit(train, tmp_path: Path, kind: str):
    keeping = {"every_steps": 4, "every_minutes": None, "keep_last": 9}
    for name in ("straight", "old"):
        train(tmp_path / name, phases=PHASES[kind], checkpoints=keeping)
    as_written_by_version_0_1(RunFolder(tmp_path / "old"), step=4)
    assert train(tmp_path / "old", phases=PHASES[kind], checkpoints=keeping).state.step == 12
    assert outcome(tmp_path / "old") == outcome(tmp_path / "straight")


def test_a_run_with_the_muon_of_before_is_refused():
    record = SimpleNamespace(recipe={"optimizer": {"name": "muon", "learning_rate": 5e-3}})
    with pytest.raises(CheckpointError, match=r"Muon whose updates.*\n.*0010-our-own-muon.*\n.*a fifth"):
        require_same_updates(record, "run.json")
    for name, options in (("adamw", {}), ("muon", {"learning_rate_factors": {}})):
        require_same_updates(SimpleNamespace(recipe={"optimizer": {"name": name, **options}}), "run.json")
