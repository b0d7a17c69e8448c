"""Makes an encoder from a family's name, a size and overrides."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from maskwright.core.discovery import load_plug_in
from maskwright.core.errors import RecipeError, suggest_nearest
from maskwright.core.randomness import torch_generator
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import Encoder

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
        RecipeError: no such family, size or option, or a value out of range (all problems at once).
    """
    encoder_class = load_family(family)
    if size is not None and size not in encoder_class.SIZES:
        raise RecipeError(
            f"encoder: {family} has no size {size!r}{suggest_nearest(size, encoder_class.SIZES)}",
            "one of " + ", ".join(encoder_class.SIZES)
            if encoder_class.SIZES
            else "size: null; its overrides say everything",
        )
    known = encoder_class.Config.option_names(overrides)
    unknown = [f"{name!r}{suggest_nearest(name, known)}" for name in overrides if name not in known]
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
        return encoder_class.Config.of_options(options)
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
        RecipeError: see `build_config`, and `require_vocabulary`.
    """
    config = build_config(family, size, overrides, vocabulary, max_positions)
    require_vocabulary(config, vocabulary)
    encoder = empty_encoder(load_family(family), config)
    encoder.to_empty(device="cpu")
    with torch.no_grad():
        encoder.initialize(torch_generator(seed, "encoder"))
    return encoder


def more_blocks(
    encoder_class: type[Encoder], config: EncoderConfig, num_blocks: int, generator: torch.Generator
) -> nn.ModuleList:
    """Return what a deeper encoder of the same family would have after its last block, float32 on the CPU.

    `Encoder.run_blocks` takes them as `extra`.

    Args:
        encoder_class, config: of the encoder that they will follow.
        num_blocks: how many.
        generator: draws their weights, as the family does.
    """
    deeper = empty_encoder(encoder_class, config.deeper(num_blocks))
    deeper.blocks = nn.ModuleList(deeper.layers[config.num_layers :])
    deeper.to_empty(device="cpu")
    with torch.no_grad():
        deeper.initialize(generator)
    return deeper.blocks


def require_vocabulary(config: EncoderConfig, vocabulary: Vocabulary) -> None:
    """Refuse an encoder that does not know every token.

    Raises:
        RecipeError: it has fewer tokens than the tokenizer.
    """
    if config.vocabulary_size < vocabulary.size:
        raise RecipeError(
            f"encoder: it has {config.vocabulary_size} tokens, the tokenizer {vocabulary.size}",
            "at least as many tokens as the tokenizer has",
            "leave the number of tokens out of encoder.overrides, or take the tokenizer that the model was made for",
        )


def empty_encoder(encoder_class: type[Encoder], config: EncoderConfig) -> Encoder:
    """Return an encoder without storage (on the meta device), so that nothing is drawn before its weights arrive."""
    with torch.device("meta"):
        return encoder_class(config)
