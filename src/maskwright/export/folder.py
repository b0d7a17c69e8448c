"""Hugging Face model folders: write one, verified and atomically; read one."""

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig, PreTrainedTokenizerFast

from maskwright.core.discovery import load_plug_in, plug_in_names
from maskwright.core.errors import ExportError
from maskwright.core.files import write_folder_atomically, write_json_atomically
from maskwright.core.integrity import warn_of_changes, write_sums
from maskwright.core.log import printable, say
from maskwright.core.records.run import ExportRecord
from maskwright.encoders.build import empty_encoder
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import Encoder
from maskwright.encoders.families.hugging_face import HuggingFace
from maskwright.export.families.base import Exporter
from maskwright.export.foreign import import_foreign, write_foreign
from maskwright.export.verify import verify
from maskwright.export.weights import load_into, read_tensors, renamed, weight_files
from maskwright.heads.token_head import VOCABULARY, TokenHead
from maskwright.heads.vocabulary import VocabularyHead
from maskwright.tokenization.folder import is_of_tokenizer, save_tokenizer

EXPORTERS = "maskwright.export.families"


@dataclass(frozen=True)
class ImportedModel:
    """What a model folder became.

    Attributes:
        encoder: float32, on the CPU.
        head: the vocabulary head: hidden states [M, D] and the token embedding [V, E] to logits [M, V].
        family: the encoder's name in recipes.
        has_trained_head: False if the folder had no vocabulary head and a fresh one took its place.
    """

    encoder: Encoder
    head: TokenHead
    family: str
    has_trained_head: bool


@dataclass(frozen=True)
class NativeModel(ImportedModel):
    """One that a family of ours reads."""

    head: VocabularyHead


class UnknownHere(ExportError):
    """A model, whole as far as is known, that no family of ours has."""


def export_model(
    encoder: Encoder, heads: Mapping[str, nn.Module], tokenizer: PreTrainedTokenizerFast, folder: Path
) -> ExportRecord:
    """Write a model as a folder that transformers loads without code of ours.

    With a vocabulary head, `AutoModelForMaskedLM` does; with another head, the class that the family's exporter names.

    The folder is compared with the model before it gets its name; if they differ, there is no folder.

    Args:
        encoder: on any device; it is left as it is.
        heads: by kind, what goes with it (`Outcome.heads` of an objective); the first gives the folder its class.
        tokenizer: the one that the model was trained with.
        folder: replaced if it exists.

    Returns:
        What was compared.

    Raises:
        ExportError: the options or a head have no counterpart in transformers, or the logits differ.
    """
    config = encoder.config
    if len(tokenizer) > config.vocabulary_size:
        raise ExportError(
            f"the tokenizer has {len(tokenizer)} tokens, the model {config.vocabulary_size}",
            "the tokenizer that the model was trained with",
        )
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.model_max_length = config.max_positions
    require_exportable(encoder, tuple(heads))
    exporter = None if isinstance(encoder, HuggingFace) else exporter_of(encoder)
    with write_folder_atomically(folder) as unfinished:
        if isinstance(encoder, HuggingFace):
            write_foreign(encoder, unfinished)
        elif exporter:
            tensors = renamed(encoder, exporter.encoder_tensors(config))
            for kind, head in heads.items():
                tensors |= renamed(head, exporter.heads[kind].tensors)
            write_json_atomically(unfinished / "config.json", exporter.config_values(config, tuple(heads)))
            save_file(tensors, unfinished / "model.safetensors", metadata={"format": "pt"})
        for file in weight_files(unfinished):
            # safetensors makes files that only their owner can read.
            shutil.copymode(unfinished / "config.json", file)
        save_tokenizer(tokenizer, unfinished)
        found = verify(encoder, heads, exporter, unfinished)
        return found.model_copy(update={"sums_sha256": write_sums(unfinished)})


def import_model(folder: str | Path, dropout: float | None = None) -> ImportedModel:
    """Read a model folder of any masked encoder that transformers has.

    Our own families run faster; what none of them has runs in transformers' own class, and a line says so.

    Args:
        folder: with `config.json` and safetensors; with or without a vocabulary head.
        dropout: replaces every dropout probability of the encoder; None leaves them as the folder has them.

    Raises:
        ExportError: it is no such folder, or damaged.
    """
    folder = Path(folder)
    warn_of_changes(folder, lambda name: not is_of_tokenizer(name))
    try:
        return import_native_model(folder, dropout)
    except UnknownHere as refusal:
        foreign = import_foreign(folder, dropout)
        reason = refusal.got.removeprefix(f"{folder / 'config.json'}: ")
        say(printable(f"{folder}: computed by transformers' own {foreign.architecture}: {reason}"))
        return ImportedModel(foreign.encoder, foreign.head, "hugging_face", foreign.has_trained_head)


def import_native_model(folder: str | Path, dropout: float | None = None) -> NativeModel:
    """Read a model folder of an architecture that a family of ours has; see `import_model`.

    Raises:
        UnknownHere: no family of ours has its architecture, or what it asks for.
        ExportError: it is no such folder, or damaged.
    """
    folder = Path(folder)
    family, exporter, config = _native_options(folder, dropout)
    tensors = read_tensors(folder, exporter)
    encoder = empty_encoder(exporter.encoder_class, config)
    load_into(encoder, exporter.encoder_tensors(config), tensors)
    head = VocabularyHead(config)
    names = exporter.heads.get(VOCABULARY)
    has_trained_head = names is not None and all(
        name in tensors for ours in head.state_dict() for name in names.tensors[ours]
    )
    if names is not None and has_trained_head:
        load_into(head, names.tensors, tensors)
    _refuse_unknown(folder, exporter, config, tensors)
    return NativeModel(encoder, head, family, has_trained_head)


def load_weights(encoder: Encoder, folder: Path) -> None:
    """Read a folder's weights into an encoder of the family and options that it was exported from.

    Raises:
        ExportError: the folder is damaged, or of another encoder.
    """
    exporter = exporter_of(encoder)
    load_into(encoder, exporter.encoder_tensors(encoder.config), read_tensors(folder, exporter))


def require_exportable(encoder: Encoder, kinds: Sequence[str]) -> None:
    """Refuse a model that no export could write, before hours go into training it.

    Args:
        encoder: of any family.
        kinds: of the heads that are to go with it.

    Raises:
        ExportError: its family has no exporter, or its options or a head have no counterpart in transformers.
    """
    if isinstance(encoder, HuggingFace):
        known, name = [VOCABULARY], type(encoder.whole).__name__
    else:
        exporter = exporter_of(encoder)
        known, name = list(exporter.heads), type(encoder).__name__
    for kind in kinds:
        if kind not in known:
            raise ExportError(
                f"the objective leaves a head of the kind {kind!r}, and the export of {name} has no class for it",
                "a head of the kind " + " or ".join(known),
                "take a family that has one, or name its class in `heads` of the exporter (docs/encoders.md)",
            )
    if not kinds:
        raise ExportError(f"the objective leaves no head for the export of {name}", "one of " + ", ".join(known))
    if not isinstance(encoder, HuggingFace):
        exporter_of(encoder).config_values(encoder.config, kinds)


def exporter_of(encoder: Encoder) -> Exporter:
    """Return the exporter of an encoder's family.

    Raises:
        ExportError: the family has none.
    """
    if encoder.exporter is None:
        raise ExportError(
            f"the family {type(encoder).__name__} has no exporter",
            "the class attribute `exporter`, which names one (docs/encoders.md)",
        )
    return load_plug_in(EXPORTERS, encoder.exporter, Exporter)()  # pyright: ignore[reportAbstractUsage]


def _native_options(folder: Path, dropout: float | None = None) -> tuple[str, Exporter, EncoderConfig]:
    """Return the family that reads a folder, its exporter and its options.

    Raises:
        UnknownHere: there is none, or it does not have what the configuration asks for.
        ExportError: the configuration can't be read.
    """
    family = _family_of(folder)
    exporter = load_plug_in(EXPORTERS, family, Exporter)()  # pyright: ignore[reportAbstractUsage]
    try:
        values = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True).to_dict()
    except (StrictDataclassError, ValueError, TypeError) as error:
        problem = " ".join(str(error).split())
        raise ExportError(f"{folder / 'config.json'}: {problem}", f"a configuration of {family}") from error
    config_class = exporter.encoder_class.Config
    if dropout is None:
        replaced = {}
    else:
        replaced = {option: dropout for option in config_class.model_fields if option.endswith("dropout")}
    try:
        return family, exporter, config_class.model_validate(exporter.encoder_options(values) | replaced)
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(map(str, first["loc"]))
        raise UnknownHere(f"{folder}: {option}: {first['msg']}", f"an option that {family} has") from error
    except ExportError as error:
        raise UnknownHere(error.got, error.expected, error.to_do) from error


def _family_of(folder: Path) -> str:
    """Return the family that reads a folder; by name, nothing is loaded yet."""
    path = folder / "config.json"
    if not path.is_file():
        raise ExportError(f"{path} does not exist", "a Hugging Face model folder")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportError(f"{path} is not JSON: {error}", "a Hugging Face model folder") from error
    if not isinstance(values, dict):
        raise ExportError(f"{path} holds a {type(values).__name__}", "a Hugging Face model's configuration")
    model_type = values.get("model_type")
    families = plug_in_names(EXPORTERS)
    for family in families:
        if load_plug_in(EXPORTERS, family, Exporter).model_type == model_type:
            return family
    named = ", ".join(values.get("architectures") or []) or "no architecture"
    raise UnknownHere(
        f"{path}: no family of ours has the model_type {model_type!r} ({named})", "one of " + ", ".join(families)
    )


def _refuse_unknown(folder: Path, exporter: Exporter, config: EncoderConfig, tensors: Mapping[str, Any]) -> None:
    all_names = [exporter.encoder_tensors(config), *(names.tensors for names in exporter.heads.values())]
    known = {name for names in all_names for theirs in names.values() for name in theirs}
    unknown = sorted(name for name in tensors if name not in known and not name.startswith(exporter.unused_tensors))
    if unknown:
        others = f", nor have {len(unknown) - 1} others" if len(unknown) > 1 else ""
        raise ExportError(
            f"{folder}: the tensor {unknown[0]} has no place in {type(exporter).__name__}{others}",
            "an encoder and its head, without what trained them, such as a decoder",
            "take the folder as it was written; for a run of ours, maskwright export RUN writes it again",
        )
