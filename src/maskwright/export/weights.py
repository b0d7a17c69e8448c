"""Weights under their Hugging Face names, out and in."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from maskwright.core.errors import ExportError
from maskwright.core.files import sha256_of_file
from maskwright.export.families.base import Exporter, TensorNames


def renamed(module: nn.Module, names: TensorNames) -> dict[str, Tensor]:
    """Return a module's weights under their names in transformers, float32 on the CPU."""
    tensors: dict[str, Tensor] = {}
    for ours, weight in module.state_dict().items():
        theirs = names[ours]
        parts = weight.detach().to("cpu", torch.float32).chunk(len(theirs))
        tensors |= {
            name: part.clone(memory_format=torch.contiguous_format) for name, part in zip(theirs, parts, strict=True)
        }
    return tensors


def load_into(module: nn.Module, names: TensorNames, tensors: Mapping[str, Tensor]) -> None:
    """Replace a module's weights (which may be on the meta device) by tensors named as in transformers.

    Raises:
        ExportError: a tensor is missing or of another shape; names it.
    """
    weights = {}
    for ours, expected in module.state_dict().items():
        missing = [name for name in names[ours] if name not in tensors]
        if missing:
            raise ExportError(f"the model's weights lack {missing[0]}", f"a tensor of shape {list(expected.shape)}")
        weight = torch.cat([tensors[name].float() for name in names[ours]])
        if weight.shape != expected.shape:
            raise ExportError(
                f"the tensor {names[ours][0]} has the shape {list(weight.shape)}",
                f"{list(expected.shape)}, by the options in config.json",
            )
        weights[ours] = weight
    module.load_state_dict(weights, assign=True)
    module.requires_grad_(True)


def read_tensors(folder: Path, exporter: Exporter) -> dict[str, Tensor]:
    """Read a folder's weights, one file or several, under the names of the class with the vocabulary head.

    Raises:
        ExportError: there are none, they are damaged, or a copy that should be tied differs from its original.
    """
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        try:
            tensors |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise ExportError(f"{path} can't be read: {error}", "a whole safetensors file") from error
    tensors = {exporter.canonical_name(name): tensor for name, tensor in tensors.items()}
    if not any(name.startswith(exporter.body_prefix) for name in tensors):
        tensors = {exporter.body_prefix + name: tensor for name, tensor in tensors.items()}
    for copy, original in exporter.tied_tensors().items():
        if copy in tensors and original in tensors and not torch.equal(tensors.pop(copy), tensors[original]):
            raise ExportError(f"{copy} differs from {original}", "the two tied, as this family has them")
    return tensors


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold a folder's weights, in the safetensors format.

    Raises:
        ExportError: there are none, or their index is damaged.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return [single]
    if not index.exists():
        raise ExportError(
            f"{folder} has no model.safetensors",
            "weights in the safetensors format",
            "convert other formats with transformers: from_pretrained and save_pretrained",
        )
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(f"{index} can't be read: {error}", "an index with a weight_map") from error
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ExportError(f"{folder / missing[0]} does not exist", f"the files that {index.name} names")
    return [folder / name for name in names]


def weights_sha256(folder: Path) -> str:
    """Return the checksum of a model folder's weights; of several files, that of their checksums in order of names.

    Raises:
        ExportError: the folder has no safetensors.
    """
    checksums = [sha256_of_file(path) for path in weight_files(folder)]
    return checksums[0] if len(checksums) == 1 else hashlib.sha256("\n".join(checksums).encode()).hexdigest()
