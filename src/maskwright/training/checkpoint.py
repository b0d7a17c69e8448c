"""Checkpoints that are whole or absent, checked when read, and without pickle.

A checkpoint `step-000500/` holds `model.safetensors`, `optimizer.safetensors` and `state.json`, then `manifest.json`
with size and SHA-256 of each, then `COMMIT` with the SHA-256 of the manifest. It is written under another name and
renamed, so a killed save leaves nothing that looks like a checkpoint. Randomness needs no saving: it is a function of
the seed and the step (docs/determinism.md).
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from maskwright.core.errors import CheckpointError
from maskwright.core.files import (
    make_folder,
    remove_folder,
    remove_leftovers,
    require_free_bytes,
    sha256_of_file,
    write_folder_atomically,
    write_json_atomically,
    write_text_atomically,
)
from maskwright.core.log import warn
from maskwright.core.records.base import Record
from maskwright.core.records.run import PlanRecord
from maskwright.training.safety.non_finite import first_non_finite

MODEL, OPTIMIZER, STATE, MANIFEST, COMMIT = (
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
    "COMMIT",
)


RENAMED = {
    r"^objective\.decoder_blocks\.": "objective.decoder.extra_blocks.",
    r"^objective\.mask_vector$": "objective.decoder.mask_vector",
    r"^objective\._masking\.": "objective.masking.",
    r"^vocabulary_head\.(dense|norm)\.": r"vocabulary_head.transform.\1.",
    r"^vocabulary_head\.decoder_bias$": "vocabulary_head.decoder.bias",
}
"""What tensors were called in version 0.1, as patterns, and what they are called now."""

NUMBERED = re.compile(r"^objective_(\d+)\.")
"""Begins the tensors of objectives in checkpoints of version 0.1, which hold those of all phases."""


BEST_BY = "held_out_loss"
"""The figure that decides which checkpoint is best and when a run stops early; no benchmark does."""


class TrainingState(Record):
    """The state of a run besides its tensors."""

    step: int = Field(description="optimizer steps done; the position in the data follows from it")
    phase: int | None = Field(
        default=None, description="index of the phase whose model this is; None: version 0.1, whose phases share one"
    )
    num_tokens: int = Field(description="tokens seen, without padding")
    num_text_tokens: int = Field(description="of them, those that are no special tokens; words seen follow from it")
    seconds: float = Field(description="spent in training steps")
    probe_seconds: float = Field(default=0.0, description="spent in probes")
    last_loss: float | None = None
    best_step: int | None = None
    lowest_held_out_loss: float | None = Field(
        default=None, description="at `best_step`, of the objective's own terms; None: the next is the lowest"
    )
    num_probes_without_improvement: int = 0
    metrics_sha256: str | None = Field(
        default=None,
        description="of the lines of metrics.jsonl up to the step; None: saved before there were checksums",
    )
    metrics_altered_until: int | None = Field(
        default=None, description="step after which the run was resumed with other lines than it had written up to it"
    )

    def phase_in(self, plan: PlanRecord) -> int:
        """Return the index of the phase whose model the checkpoint holds, by the plan of its run."""
        return plan.phase_of(self.step) if self.phase is None else self.phase

    def measured(self, figures: Mapping[str, float], can_end_run: bool) -> "TrainingState":
        """Return the state after a step, with what probes found after it, if they were asked.

        Args:
            figures: of the step, by name.
            can_end_run: whether a figure that is not the lowest counts against the patience of the recipe.
        """
        news: dict[str, float | int] = {}
        if "probe_seconds" in figures:
            news["probe_seconds"] = self.probe_seconds + figures["probe_seconds"]
        lowest, loss = self.lowest_held_out_loss, figures.get(BEST_BY)
        if loss is not None and math.isfinite(loss) and (lowest is None or loss < lowest):
            news |= {"best_step": self.step, "lowest_held_out_loss": loss, "num_probes_without_improvement": 0}
        elif loss is not None and can_end_run:
            news["num_probes_without_improvement"] = self.num_probes_without_improvement + 1
        return self.model_copy(update=news)

    def judged_anew(self) -> "TrainingState":
        """Return the state without a best step, for a phase whose figures don't compare with earlier ones."""
        news = {"best_step": None, "lowest_held_out_loss": None, "num_probes_without_improvement": 0}
        return self.model_copy(update=news)

    @model_validator(mode="before")
    @classmethod
    def _read_version_0_1(cls, value: Any) -> Any:
        """Begin to judge again: version 0.1 judged by clozes, whose figures don't compare with the objective's."""
        if isinstance(value, dict) and "best_held_out_loss" in value:
            value = {key: item for key, item in value.items() if key != "best_held_out_loss"}
            value["num_probes_without_improvement"] = 0
        return value


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, keep_last: int, keep_best: bool) -> None:
        """Keep the `keep_last` newest, and the best one where `keep_best`."""
        self.folder, self._keep_last, self._keep_best = folder, keep_last, keep_best

    def path(self, step: int) -> Path:
        """Return the folder of the checkpoint after `step` steps."""
        return self.folder / f"step-{step:06d}"

    def steps(self) -> list[int]:
        """Return the steps for which there is a checkpoint, whole or damaged, oldest first."""
        remove_leftovers(self.folder)  # one that was to be replaced is put back
        folders = self.folder.glob("step-*") if self.folder.exists() else []
        return sorted(int(folder.name[5:]) for folder in folders if folder.name[5:].isdigit())

    def save(self, model: Mapping[str, Tensor], optimizer: Mapping[str, Tensor], state: TrainingState) -> Path:
        """Write a checkpoint, then remove those no longer wanted.

        Raises:
            StorageError: no room; the earlier checkpoints are as they were.
        """
        make_folder(self.folder)
        num_bytes = sum(tensor.nbytes for tensors in (model, optimizer) for tensor in tensors.values())
        require_free_bytes(self.folder, num_bytes + 2**20, "a checkpoint")
        path = self.path(state.step)
        with write_folder_atomically(path) as new:
            save_file({name: tensor.detach().contiguous() for name, tensor in model.items()}, new / MODEL)
            save_file({name: tensor.contiguous() for name, tensor in optimizer.items()}, new / OPTIMIZER)
            state.write(new / STATE)
            files = {
                name: {"bytes": (new / name).stat().st_size, "sha256": sha256_of_file(new / name)}
                for name in (MODEL, OPTIMIZER, STATE)
            }
            write_json_atomically(new / MANIFEST, files)
            write_text_atomically(new / COMMIT, sha256_of_file(new / MANIFEST) + "\n")
        self._rotate(state)
        return path

    def _rotate(self, state: TrainingState) -> None:
        # Later ones were passed over when the run was resumed: they are left until it comes to them.
        steps = [step for step in self.steps() if step <= state.step]
        wanted = set(steps[-self._keep_last :])
        if self._keep_best and state.best_step is not None:
            wanted.add(state.best_step)
        for step in steps:
            if step not in wanted:
                remove_folder(self.path(step))

    def newest_whole(self) -> Path | None:
        """Return the newest checkpoint whose every checksum holds and every number is finite.

        Others are named, and left for inspection.
        """
        for step in reversed(self.steps()):
            path = self.path(step)
            problem = damage(path) or first_non_finite(load_file(path / MODEL) | load_file(path / OPTIMIZER))
            if problem is None:
                return path
            warn(f"{path} is passed over ({problem}); going back to the one before")
        return None


def damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint, or None if every checksum holds (about 1 s for 1.6 GB)."""
    try:
        manifest_bytes = (path / MANIFEST).read_bytes()
        if hashlib.sha256(manifest_bytes).hexdigest().encode() + b"\n" != (path / COMMIT).read_bytes():
            return f"{MANIFEST} is not what {COMMIT} says"
        for name, expected in json.loads(manifest_bytes).items():
            if (path / name).stat().st_size != expected["bytes"]:
                return f"{name} has {(path / name).stat().st_size} bytes, expected {expected['bytes']}"
            if sha256_of_file(path / name) != expected["sha256"]:
                return f"{name} was altered"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (UnicodeDecodeError, OSError) as error:
        return f"it can't be read: {error}"
    return None


def load_state(path: Path) -> TrainingState:
    """Read where a checkpoint's run stood."""
    return TrainingState.read(path / STATE)


def load_optimizer(path: Path, objective_number: int) -> dict[str, Tensor]:
    """Read a checkpoint's optimizer state, onto the CPU.

    Args:
        path: the checkpoint.
        objective_number: see `load_model`.
    """
    found = {}
    for name, tensor in load_file(path / OPTIMIZER).items():
        kind, parameter, key = name.split("/")
        current = current_name(parameter, objective_number)
        if current is not None:
            found[f"{kind}/{current}/{key}"] = tensor
    return found


def current_name(name: str, objective_number: int) -> str | None:
    """Return today's name of a tensor in a checkpoint of version 0.1; None for a tensor of another phase."""
    if numbered := NUMBERED.match(name):
        if int(numbered[1]) != objective_number:
            return None
        name = "objective." + name[numbered.end() :]
    for pattern, replacement in RENAMED.items():
        name = re.sub(pattern, replacement, name)
    return name


def load_model(path: Path, model: Mapping[str, Tensor], objective_number: int) -> None:
    """Copy a checkpoint's weights into `model`'s tensors.

    Args:
        path: the checkpoint.
        model: of the checkpoint's phase, by name.
        objective_number: of that phase's objective in checkpoints of version 0.1; `Recipe.objective_number` knows it.

    Raises:
        CheckpointError: they are those of another model; the first difference is named.
    """
    try:
        named = {current_name(name, objective_number): each for name, each in load_file(path / MODEL).items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path / MODEL} can't be read: {error}", "weights in safetensors format") from error
    saved = {name: tensor for name, tensor in named.items() if name is not None}
    if problem := _first_difference(saved, model):
        raise CheckpointError(
            f"{path / MODEL}: {problem}", "weights of this recipe's model", "use the recipe the run was started with"
        )
    with torch.no_grad():
        for name, tensor in model.items():
            tensor.copy_(saved[name])


def _first_difference(saved: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    for name in sorted(set(saved) ^ set(wanted)):
        return f"{name} is {'not expected' if name in saved else 'missing'}"
    for name, tensor in wanted.items():
        if saved[name].shape != tensor.shape:
            return f"{name} has shape {list(saved[name].shape)}, expected {list(tensor.shape)}"
    return None
