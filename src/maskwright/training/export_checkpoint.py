"""From a checkpoint to a verified Hugging Face folder and, beside it, what fills masks beyond the exported encoder.

An objective whose masks are read by more than the encoder (`Outcome.fills_masks` is "reader") leaves a second file: the
reader's own tensors, RUN/reader.safetensors for RUN/model, FOLDER-reader.safetensors for another FOLDER. Its metadata
hold the run's record and the checksum of the model that it goes with, so the two can be moved together.
"""

import json
from pathlib import Path

import safetensors
import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from maskwright.core.errors import CheckpointError
from maskwright.core.files import sha256_of_file, write_bytes_atomically
from maskwright.core.records.run import RunRecord, record_of, run_of_model
from maskwright.encoders.encoder import Encoder
from maskwright.export.folder import export_model, load_weights
from maskwright.export.weights import weights_sha256
from maskwright.tokenization.folder import load_tokenizer
from maskwright.tokenization.special_tokens import vocabulary_of
from maskwright.training.model import build_model
from maskwright.training.trained_run import Which, open_run, recipe_of_run

RUN, MODEL_SHA256 = "run", "model_sha256"
"""Keys in the metadata of a reader's file."""


def export_run(path: Path, which: Which = "newest", out: Path | None = None) -> Path:
    """Export a checkpoint of a run, with the reader of its masks if it has one, and note it in the run's record.

    Args:
        path: folder of the run.
        which: the checkpoint.
        out: RUN/model by default; only that one is noted in the record.

    Returns:
        The folder written.

    Raises:
        CheckpointError: see `open_run`.
        ExportError: the logits differ.
    """
    run = open_run(path, which)
    target = out or run.folder.model
    outcome = run.model.objective.outcome(run.model.encoder)
    export = export_model(run.model.encoder, outcome.heads, run.tokenizer, target)
    record = run.record.model_copy(update={"export": export.model_copy(update={"step": run.step})})
    reader = outcome.reader if outcome.fills_masks == "reader" else None
    checksum = _write_reader(reader, run.model.encoder, target, record)
    if reader_path(target) == run.folder.reader.resolve():
        assert record.export is not None
        export = record.export.model_copy(update={"reader_sha256": checksum})
        record.model_copy(update={"export": export}).write(run.folder.run_record)
    return target


def reader_path(model: Path) -> Path:
    """Return where the reader that goes with a model folder lies, if there is one."""
    run = run_of_model(model)
    return model.with_name(f"{model.name}-reader.safetensors") if run is None else run.reader


def reader_of_model(model: Path) -> nn.Module | None:
    """Return the module that fills the masks of an exported model; None if the encoder does, or no reader is there.

    Args:
        model: a model folder; its run need not be there.

    Returns:
        A module of its own on the CPU, encoder included, called as the encoder is.

    Raises:
        CheckpointError: the reader is damaged, or belongs to another model or version.
        ExportError: the model is damaged.
        RecipeError: the recipe names a plug-in that is not there.
    """
    path, run = reader_path(model), run_of_model(model)
    if run is not None:
        export = record_of(run.path).export
        if export is None or export.reader_sha256 is None:
            return None
        if path.exists() and sha256_of_file(path) != export.reader_sha256:
            raise _damaged(
                path, "was altered", f"the checksum {export.reader_sha256[:12]}..., as {run.run_record} says"
            )
    return _read_reader(path, model) if path.exists() else None


def _own_tensors(reader: nn.Module, encoder: Encoder) -> dict[str, Tensor]:
    """Return by name what a reader has beyond the encoder that is part of it."""
    of_encoder = {id(tensor) for tensor in encoder.state_dict(keep_vars=True).values()}
    return {name: each for name, each in reader.state_dict(keep_vars=True).items() if id(each) not in of_encoder}


def _write_reader(reader: nn.Module | None, encoder: Encoder, model: Path, record: RunRecord) -> str | None:
    """Write the reader of an exported model, or remove what an earlier export left; return the file's checksum."""
    path = reader_path(model)
    if reader is None:
        path.unlink(missing_ok=True)
        return None
    own = _own_tensors(reader, encoder)
    tensors = {name: each.detach().to("cpu", torch.float32).contiguous() for name, each in own.items()}
    metadata = {"format": "pt", MODEL_SHA256: weights_sha256(model), RUN: record.model_dump_json()}
    write_bytes_atomically(path, save(tensors, metadata))
    return sha256_of_file(path)


def _read_reader(path: Path, model: Path) -> nn.Module:
    """Read a reader; see `reader_of_model`."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        model_sha256, record = metadata[MODEL_SHA256], RunRecord.model_validate(json.loads(metadata[RUN]))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise _damaged(path, f"can't be read: {error!r:.200}", "what `maskwright export` wrote") from error
    if model_sha256 != weights_sha256(model):
        raise _damaged(path, f"belongs to another model than {model}", "the two as they were written together")
    recipe, vocabulary = recipe_of_run(record, str(path)), vocabulary_of(load_tokenizer(model))
    built = build_model(recipe, vocabulary, record.exported_phase)
    load_weights(built.encoder, model)
    reader = built.objective.reader(built.encoder)
    own = _own_tensors(reader, built.encoder)
    if {name: each.shape for name, each in own.items()} != {name: each.shape for name, each in tensors.items()}:
        raise _damaged(path, "holds other tensors than its recipe asks for", f"{', '.join(own)}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
    return reader


def _damaged(path: Path, problem: str, expected: str) -> CheckpointError:
    return CheckpointError(f"{path} {problem}", expected, "write it again with the model: maskwright export RUN")
