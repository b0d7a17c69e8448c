"""Makes an encoder from a family's name, a size and overrides."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError

from maskwright.core.discovery import load_plug_in
from maskwright.core.errors import RecipeError, nearest
from maskwright.core.randomness import torch_generator
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders.encoder import Encoder, EncoderConfig

FAMILIES = "maskwright.encoders.families"


def load_family(family: str) -> type[Encoder]:
    """Return a family's class by its name, or by "module:Class"."""
    return load_plug_in(FAMILIES, family, Encoder)


def build_config(
    family: str, size: str | None, overrides: Mapping[str, Any], vocabulary: Vocabulary, max_positions: int
) -> EncoderConfig:
    """Return an encoder's options.

    Args:
        family: name of a file in `families/`, or "module:Class".
        size: one of the family's sizes; None if `overrides` say everything.
        overrides: any options of the family; they win over the size.
        vocabulary: gives the number of tokens and the special ones.
        max_positions: longest sequence.

    Raises:
        RecipeError: no such family, size or option, a value out of range (all problems at once), or a family that
            makes no new encoders.
    """
    encoder_class = load_family(family)
    if not encoder_class.makes_new:
        raise RecipeError(
            f"encoder: {family} reads trained models and makes no new ones",
            "a family that does, such as modernbert or bert",
            "trained models can be evaluated as they are: maskwright evaluate MODEL",
        )
    if size is not None and size not in encoder_class.SIZES:
        raise RecipeError(
            f"encoder: {family} has no size {size!r}{nearest(size, encoder_class.SIZES)}",
            "one of " + ", ".join(encoder_class.SIZES),
        )
    known = encoder_class.Config.model_fields
    unknown = [f"{name!r}{nearest(name, known)}" for name in overrides if name not in known]
    if unknown:
        raise RecipeError(f"encoder: {family} has no option {'; '.join(unknown)}", "one of " + ", ".join(sorted(known)))
    options = {
        "vocabulary_size": vocabulary.size,
        "max_positions": max_positions,
        "pad_token_id": vocabulary.pad_id,
        "cls_token_id": vocabulary.cls_id,
        "sep_token_id": vocabulary.sep_id,
        **(encoder_class.SIZES[size] if size is not None else {}),
        **overrides,
    }
    try:
        return encoder_class.Config.model_validate(options)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc'])) or family}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        ]
        raise RecipeError("encoder: " + "; ".join(problems), "options in their ranges") from error


def build_encoder(
    family: str,
    size: str | None,
    overrides: Mapping[str, Any],
    vocabulary: Vocabulary,
    max_positions: int,
    seed: int,
) -> Encoder:
    """Return a new encoder, float32 on the CPU, with weights that are a function of `seed`.

    Args:
        family, size, overrides, vocabulary, max_positions: see `build_config`.
        seed: of the run.

    Raises:
        RecipeError: see `build_config`.
    """
    encoder = empty_encoder(load_family(family), build_config(family, size, overrides, vocabulary, max_positions))
    encoder.to_empty(device="cpu")
    with torch.no_grad():
        encoder.initialize(torch_generator(seed, "encoder"))
    return encoder


def empty_encoder(encoder_class: type[Encoder], config: EncoderConfig) -> Encoder:
    """Return an encoder without storage (on the meta device), so that nothing is drawn before its weights arrive."""
    with torch.device("meta"):
        return encoder_class(config)
