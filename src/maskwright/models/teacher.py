"""A frozen encoder and the layer whose hidden states are coded: what knows the answers that a student learns."""

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from maskwright.core.batches import PackedBatch
from maskwright.core.errors import CheckpointError, RecipeError
from maskwright.core.files import write_bytes_atomically
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders.encoder import Encoder, no_such_layer
from maskwright.models.trained import TrainedModel

FILE_NAME = "teacher.safetensors"

MAKE_AGAIN = "delete the folder of the phase, so that its teacher is made again"


class Teacher:
    """Gives hidden states of clean text, with neither gradients nor dropout.

    It is no `nn.Module`, so that an objective that holds it has none of its weights among its own.

    Attributes:
        name: as the user called it.
        sha256: checksum of its weights.
        layer: which hidden states, as `hidden_states` of transformers counts.
        encoder: on the device, in evaluation mode.
        head: its vocabulary head.
        vocabulary: of its tokenizer.
    """

    def __init__(self, model: TrainedModel, layer: int, name: str, device: torch.device, dtype: torch.dtype) -> None:
        """Freeze a model and move it to the device; it is not copied (`snapshot` does that for one that is in use).

        Args:
            model: encoder and head; from now on the teacher's own.
            layer: 0 is the embedding's output; -1 the last, -2 the one before and so on.
            name: for messages and records.
            device: where to compute.
            dtype: of matrix products; below float32 by autocast.

        Raises:
            RecipeError: there is no such layer.
        """
        last = model.encoder.config.num_layers
        if not -last - 1 <= layer <= last:
            raise no_such_layer(layer, last)
        self.layer = layer % (last + 1)
        self.name, self.sha256, self.vocabulary = name, model.sha256, model.vocabulary
        self.encoder: Encoder = model.encoder.to(device).eval().requires_grad_(False)
        self.head = model.head.to(device).eval().requires_grad_(False)
        self.device, self.dtype = device, dtype

    @property
    def width(self) -> int:
        """How many numbers a hidden state has, D."""
        return self.encoder.config.hidden_size

    def require_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Refuse token ids of another tokenizer.

        Raises:
            RecipeError: the tokenizers differ.
        """
        require_same_vocabulary(self.name, self.vocabulary, vocabulary)

    @torch.no_grad()
    def states(self, batch: PackedBatch, positions_M: Tensor | None = None) -> Tensor:
        """Return hidden states of the layer, scaled to norm 1; only the layers up to it are run.

        Args:
            batch: clean tokens, on any device.
            positions_M: int64 [M], the positions in the batch that are wanted; None wants all.

        Returns:
            float32 [M, D] or [T, D], on the teacher's device.
        """
        batch = self._made_ready(batch)
        with self._autocast():
            x_TD = self.encoder.states_of_layer(self.layer, batch.input)
        return unit_rows(x_TD if positions_M is None else x_TD[positions_M.to(self.device)])

    @torch.no_grad()
    def logits(self, batch: PackedBatch, positions_M: Tensor) -> Tensor:
        """Return what the whole teacher predicts at some positions: float32 logits [M, V]."""
        batch = self._made_ready(batch)
        with self._autocast():
            x_MD = self.encoder(batch.input, positions_M.to(self.device))
            return self.head(x_MD, self.encoder.embedding_weight_VE).float()

    def save(self, folder: Path) -> None:
        """Write `teacher.safetensors`, from which `load` makes the same teacher again.

        Raises:
            StorageError: it can't be written.
        """
        header = {"name": self.name, "sha256": self.sha256, "layer": self.layer, "vocabulary": self.vocabulary.sha256}
        # Copies: a head of transformers shares weights with its encoder, and no two tensors of a file may.
        tensors = {name: tensor.clone() for name, tensor in _tensors(self.encoder, self.head)}
        header["content_sha256"] = _content_sha256(header, tensors)
        write_bytes_atomically(
            folder / FILE_NAME, safetensors.torch.save(tensors, {"maskwright": json.dumps(header, sort_keys=True)})
        )

    @classmethod
    def load(cls, folder: Path, like: TrainedModel, device: torch.device, dtype: torch.dtype) -> "Teacher":
        """Read what `save` wrote.

        Args:
            folder: where it lies.
            like: a model of the same architecture and vocabulary; it is copied, and its weights are not looked at.
            device, dtype: see `Teacher`.

        Raises:
            CheckpointError: there is none, it is damaged, or it is of another architecture or vocabulary.
        """
        path = folder / FILE_NAME
        header, tensors = read_teacher(path)
        model = TrainedModel(copy.deepcopy(like.encoder), copy.deepcopy(like.head), like.vocabulary, "")
        try:
            for prefix, module in _parts(model.encoder, model.head):
                named = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
                module.load_state_dict(named)
            name, sha256, layer, vocabulary = (header[key] for key in ("name", "sha256", "layer", "vocabulary"))
        except (KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path} can't be read: {reason}", "a teacher of this encoder", MAKE_AGAIN) from error
        if vocabulary != like.vocabulary.sha256:
            raise CheckpointError(f"{path} is of another tokenizer", "the run's own", MAKE_AGAIN)
        loaded = TrainedModel(model.encoder, model.head, like.vocabulary, sha256)
        return cls(loaded, layer, name, device, dtype)

    def _made_ready(self, batch: PackedBatch) -> PackedBatch:
        """Move a batch to the device and take the attention that is best for its rows."""
        self.encoder.choose_attention(self.device, self.dtype, batch.layout.row_length)
        return batch.to(self.device)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def snapshot(encoder: Encoder, head: nn.Module, vocabulary: Vocabulary) -> TrainedModel:
    """Return a copy of a model that is being trained, as it is now, with a checksum of its weights."""
    content = hashlib.sha256()
    for name, tensor in _tensors(encoder, head):
        content.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        content.update(tensor.view(torch.uint8).numpy().tobytes())
    return TrainedModel(copy.deepcopy(encoder), copy.deepcopy(head), vocabulary, content.hexdigest())


def read_teacher(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the header and the tensors of a file that `Teacher.save` wrote.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist", "the teacher as it was saved", MAKE_AGAIN)
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(json.loads((file.metadata() or {})["maskwright"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} can't be read: {reason}", "the teacher as it was saved", MAKE_AGAIN) from error
    # Files of earlier versions have no checksum.
    if header.pop("content_sha256", None) not in (None, _content_sha256(header, tensors)):
        raise CheckpointError(f"{path} was altered: its checksum differs", "the teacher as it was saved", MAKE_AGAIN)
    return header, tensors


def _content_sha256(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the checksum of a teacher's file: of its header and its tensors."""
    content = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        content.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        content.update(tensor.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


def _parts(encoder: nn.Module, head: nn.Module) -> tuple[tuple[str, nn.Module], ...]:
    return ("encoder.", encoder), ("head.", head)


def _tensors(encoder: nn.Module, head: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield all tensors of a model by name, on the CPU and contiguous."""
    for prefix, module in _parts(encoder, head):
        for name, tensor in sorted(module.state_dict().items()):
            yield prefix + name, tensor.detach().cpu().contiguous()


def require_same_vocabulary(teacher: str, of_teacher: Vocabulary, of_text: Vocabulary) -> None:
    """Refuse a teacher that reads token ids of another tokenizer than the text's.

    Raises:
        RecipeError: the tokenizers differ.
    """
    if of_text.sha256 != of_teacher.sha256:
        raise RecipeError(
            f"the teacher {teacher} has another tokenizer than the text: {of_teacher.size:,} tokens, checksum "
            f"{of_teacher.sha256[:12]}, against {of_text.size:,}, {of_text.sha256[:12]}",
            "the same tokenizer for teacher, text and student",
            f"prepare the text with the teacher's own tokenizer (tokenizer.existing: {teacher}), or train a teacher",
        )


def unit_rows(states_MD: Tensor) -> Tensor:
    """Return states of L2 norm 1, in float32 at least; a state that is exactly zero stays zero."""
    states_MD = states_MD if states_MD.dtype == torch.float64 else states_MD.float()
    norms = states_MD.norm(dim=1, keepdim=True)
    return states_MD / norms.masked_fill(norms == 0, 1e-9)
