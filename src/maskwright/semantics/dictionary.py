"""A dictionary of latent semantic atoms: the atoms, where they come from, and one checked file for both."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import safetensors.torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from maskwright.core.errors import CheckpointError
from maskwright.core.files import write_bytes_atomically
from maskwright.core.records.base import Record

FILE_NAME = "dictionary.safetensors"


class DictionaryProvenance(Record):
    """Where a dictionary comes from: enough to learn it again, and to refuse states that are not its teacher's."""

    format_version: Literal[1] = 1
    penalty: float = Field(gt=0, description="lambda of the codes it was learned for")
    teacher: str = Field(description="the model whose hidden states were used, as the user named it")
    teacher_sha256: str = Field(description="checksum of the model's weights")
    layer: int = Field(ge=0, description="which hidden states: 0 is the embedding's output, the last the final norm's")
    corpus_sha256: str = Field(default="", description="checksum of the text that was sampled")
    num_states_seen: int = Field(description="states of the whole stream")
    num_states: int = Field(description="states in the sample")
    seed: int
    settings: dict[str, float] = Field(default_factory=dict, description="`DictionaryConfig`, and what else was set")
    num_updates: int = Field(description="minibatches of learning")
    objective: float = Field(description="mean of 1/2 ||x - D a||^2 + lambda sum(a) over states of the sample")


@dataclass(frozen=True)
class Dictionary:
    """Atoms with their provenance.

    Attributes:
        atoms_AD: float32 [A, D], each of L2 norm at most 1; they may have negative numbers.
        provenance: where they come from.
    """

    atoms_AD: Tensor
    provenance: DictionaryProvenance

    @cached_property
    def sha256(self) -> str:
        """Checksum of atoms and provenance: what a cache of targets is keyed by."""
        content = hashlib.sha256(self.provenance.model_dump_json().encode())
        content.update(json.dumps(list(self.atoms_AD.shape)).encode())
        content.update(self.atoms_AD.detach().cpu().float().contiguous().numpy().astype("<f4").tobytes())
        return content.hexdigest()

    def save(self, folder: Path) -> Path:
        """Write `dictionary.safetensors`, with the provenance and the checksum in its header; return its path.

        Raises:
            StorageError: it can't be written.
        """
        header = json.dumps({"provenance": self.provenance.model_dump(mode="json"), "sha256": self.sha256})
        atoms_AD = self.atoms_AD.detach().cpu().float().contiguous()
        path = folder / FILE_NAME
        # One key alone: the order of several would differ from file to file.
        write_bytes_atomically(path, safetensors.torch.save({"atoms_AD": atoms_AD}, {"maskwright": header}))
        return path

    @classmethod
    def load(cls, folder: Path) -> "Dictionary":
        """Read what `save` wrote, onto the CPU.

        Raises:
            CheckpointError: the file is missing, damaged, altered or no dictionary.
        """
        path = folder / FILE_NAME
        to_do = "make it with: maskwright dictionary MODEL --data TEXT --out FOLDER"
        if not path.is_file():
            raise CheckpointError(f"{path} does not exist", "a dictionary", to_do)
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})["maskwright"])
                atoms_AD = file.get_tensor("atoms_AD")
            found = cls(atoms_AD, DictionaryProvenance.model_validate(header["provenance"]))
        except (SafetensorError, OSError, KeyError, json.JSONDecodeError, ValidationError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path} is no dictionary: {reason}", "a whole dictionary file", to_do) from error
        if found.sha256 != header.get("sha256"):
            raise CheckpointError(f"{path} was altered: its checksum does not fit", "the file as written", to_do)
        return found

    def require_width(self, width: int, model: str) -> None:
        """Refuse a model whose hidden states the atoms can't be for.

        Raises:
            CheckpointError: the widths differ.
        """
        if self.atoms_AD.shape[1] != width:
            raise CheckpointError(
                f"{model} has hidden states of {width}, the dictionary has atoms of {self.atoms_AD.shape[1]}",
                f"the dictionary of this model; this one is from {self.provenance.teacher}",
                "learn a dictionary from this model",
            )
