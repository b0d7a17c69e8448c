"""Model folders of every masked architecture of transformers, in and out, through the class of transformers itself."""

import contextlib
import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel

from maskwright.core.errors import ExportError
from maskwright.core.log import warn
from maskwright.core.randomness import torch_generator
from maskwright.encoders.families.hugging_face import HuggingFace, HuggingFaceConfig
from maskwright.encoders.masked_architectures import FOREIGN_FAILURES, decoder_key, quiet_transformers
from maskwright.export.verify import packed_logits, random_sequences
from maskwright.export.weights import weight_files
from maskwright.heads.foreign import ForeignHead

MAX_RELATIVE_DIFFERENCE = 1e-4
"""Largest difference of logits, as a share of the largest logit, between a model as a whole and in our two parts."""

SAMPLE_LENGTHS = (5, 17, 11)
"""Lengths of the sequences that are compared at every import."""


@dataclass(frozen=True)
class ForeignModel:
    """A model folder, read.

    Attributes:
        encoder: the body.
        head: the rest.
        architecture: name of the class.
        has_trained_head: whether the folder has all the head's weights.
    """

    encoder: HuggingFace
    head: ForeignHead
    architecture: str
    has_trained_head: bool


def import_foreign(folder: Path, dropout: float | None = None) -> ForeignModel:
    """Read a model folder; its weights from safetensors only, and none of its code is run.

    Args:
        folder: with `config.json` and safetensors.
        dropout: replaces every dropout probability of the configuration; None leaves them.

    Returns:
        Float32 on the CPU; without a trained head, the one it has is drawn by a fixed seed.

    Raises:
        ExportError: it is no masked encoder that transformers knows, or damaged.
    """
    config = _read_config(folder, dropout)
    weight_files(folder)
    model, report = _read_model(folder, config)
    _require_whole_body(folder, model, report)
    with _failures_explained(f"{folder}: {type(model).__name__} does not run on plain text"), quiet_transformers():
        return _in_two_parts(folder, model, report)


def write_foreign(encoder: HuggingFace, folder: Path) -> None:
    """Write a model with its head into a folder, by the code of transformers; float32, whatever it is here."""
    whole = copy.deepcopy(encoder.whole)
    nn.Module.to(whole, "cpu", torch.float32)
    with quiet_transformers():
        whole.save_pretrained(folder)


def _in_two_parts(folder: Path, model: PreTrainedModel, report: dict[str, Any]) -> ForeignModel:
    """Take a model apart, and see on a few random sequences that the parts make the logits of the whole."""
    encoder = HuggingFace(HuggingFaceConfig.of(model), model).eval()
    samples = random_sequences(encoder.config, SAMPLE_LENGTHS)
    with torch.no_grad():
        expected_TV = torch.cat([model(input_ids=sample[None]).logits[0] for sample in samples])
    foreign = ForeignModel(
        encoder,
        ForeignHead(encoder).eval(),
        type(model).__name__,
        has_trained_head=all(name.startswith(_prefix(model)) for name in report["missing_keys"]),
    )
    _require_same_logits(folder, foreign, samples, expected_TV)
    return foreign


def _prefix(model: PreTrainedModel) -> str:
    """Return what the names of the body's tensors begin with."""
    return f"{model.base_model_prefix}."


def _read_config(folder: Path, dropout: float | None) -> PretrainedConfig:
    """Return the configuration of a masked encoder.

    Raises:
        ExportError: it is another kind of model, or unknown.
    """
    path = folder / "config.json"
    with _failures_explained(f"{path} can't be read"), quiet_transformers():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    is_masked = type(config) in AutoModelForMaskedLM._model_mapping
    if not is_masked or decoder_key(config):
        raise ExportError(
            f"{path}: a model of the type {config.model_type!r} is no encoder with a masked language model's head"
            + (f" ({decoder_key(config)} is true)" if is_masked else ""),
            "a model that AutoModelForMaskedLM loads, such as BERT, RoBERTa, DeBERTa, ELECTRA or ModernBERT",
        )
    if dropout is not None:
        for key, value in config.to_dict().items():
            if "dropout" in key and isinstance(value, int | float) and not isinstance(value, bool):
                setattr(config, key, dropout)
    return config


def _read_model(folder: Path, config: PretrainedConfig) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Return the model with its head, and transformers' account of what fitted."""
    with (
        _failures_explained(f"{folder} can't be read as a {config.model_type} model"),
        quiet_transformers(),
        torch.random.fork_rng(devices=[]),
    ):
        # What the folder lacks is drawn from torch's own generator; it is left as it was.
        torch.set_rng_state(torch_generator(0, "foreign_head").get_state())
        model, report = AutoModelForMaskedLM.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    return model.eval(), report


@contextlib.contextmanager
def _failures_explained(problem: str) -> Iterator[None]:
    """Turn what transformers raises about a folder into one message.

    Raises:
        ExportError: in its place.
    """
    try:
        yield
    except ExportError:
        raise
    except FOREIGN_FAILURES as error:
        reason = " ".join(str(error).split())[:300]
        raise ExportError(
            f"{problem}: {reason}",
            "a folder that the installed transformers loads without code of the folder's own",
            "save the model again with save_pretrained, or install a newer transformers",
        ) from error


def _require_whole_body(folder: Path, model: PreTrainedModel, report: dict[str, Any]) -> None:
    """Refuse a folder whose weights and configuration describe two different bodies.

    Raises:
        ExportError: a tensor is missing, or there are layers that the configuration does not have.
    """
    prefix = _prefix(model)
    missing = sorted(name for name in report["missing_keys"] if name.startswith(prefix))
    if missing:
        raise ExportError(f"{folder}: the model's weights lack {missing[0]}", f"all tensors of {type(model).__name__}")
    kinds = {_without_numbers(name) for name in model.state_dict()}
    unexpected = sorted(report["unexpected_keys"])
    for name in unexpected:
        if re.search(r"\.\d+\.", name) and kinds & {_without_numbers(name), _without_numbers(prefix + name)}:
            raise ExportError(f"{folder}: config.json has no layer for the tensor {name}", "as many layers as weights")
    in_body = [name for name in unexpected if name.startswith(prefix) and "pooler" not in name]
    if in_body:
        warn(f"{folder}: {len(in_body)} tensors have no place in {type(model).__name__}, such as {in_body[0]}")


def _without_numbers(name: str) -> str:
    return re.sub(r"\d+", "*", name)


def _require_same_logits(folder: Path, foreign: ForeignModel, samples: list[Tensor], expected_TV: Tensor) -> None:
    """Refuse a model whose body and head, taken apart, do not make the logits of the whole.

    Raises:
        ExportError: they differ.
    """
    with torch.no_grad():
        logits_TV = packed_logits(foreign.encoder, foreign.head, samples)
    difference = float((logits_TV - expected_TV).abs().max())
    if not difference <= MAX_RELATIVE_DIFFERENCE * max(1.0, float(expected_TV.abs().max())):
        raise ExportError(
            f"{folder}: {foreign.architecture} gives other logits in a padded batch (by up to {difference:.2g})",
            "an architecture in which padding makes no difference, and finite weights",
        )
