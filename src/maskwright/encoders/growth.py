"""A deeper encoder from one that was trained: which block of the new one begins as which block of the old one.

Source: Gong et al. 2019, Efficient Training of BERT by Progressively Stacking, ICML 2019 (stack); Chen et al. 2021,
    bert2BERT, arXiv:2110.07143 (why a function that is kept helps).
Departures: the number of blocks need not double.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from maskwright.core.errors import RecipeError
from maskwright.encoders.build import empty_encoder
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import Block, Encoder

NewBlocks = Literal["stack", "copy", "zero"]
"""How blocks that are new begin: as the old stack again above it; each as a copy right above its original; or as such a
copy that gives back its input, so that the encoder computes what it did before."""

CITATION = "Gong et al. 2019, Efficient Training of BERT by Progressively Stacking, ICML 2019"


@dataclass(frozen=True)
class Grown:
    """What an encoder became.

    Attributes:
        encoder: the new one, float32 on the CPU.
        origins: the old name of every tensor of the new one that goes on; those of new blocks are not among them.
    """

    encoder: Encoder
    origins: dict[str, str]


def originals(num_before: int, num_after: int, new_blocks: NewBlocks) -> list[int]:
    """Return for every block of the new encoder the old one that it begins as; the first of several is the old one."""
    if new_blocks == "stack":
        return [index % num_before for index in range(num_after)]
    return [index * num_before // num_after for index in range(num_after)]


def require_growth(
    encoder_class: type[Encoder], before: EncoderConfig, after: EncoderConfig, new_blocks: NewBlocks
) -> None:
    """Refuse what can't be grown.

    Raises:
        RecipeError: the encoder would get narrower, wider or shallower, is one of transformers' classes, or has blocks
            that can't give back their input (new_blocks: zero).
    """
    if encoder_class.is_foreign:
        raise RecipeError(
            f"encoder: {encoder_class.__name__} can't grow: its blocks belong to transformers",
            "an encoder of one of our own families, or weights: fresh",
        )
    if after.num_layers < before.num_layers:
        raise RecipeError(
            f"encoder: num_layers goes from {before.num_layers} down to {after.num_layers}",
            "at least as many as before, or weights: fresh",
        )
    if new_blocks == "zero":
        grown = empty_encoder(encoder_class, after)
        if len(grown.blocks) < after.num_layers:
            raise RecipeError(
                f"encoder: the blocks of {encoder_class.__name__} are one and the same", "new_blocks: stack"
            )
        for block in grown.blocks:
            if isinstance(block, Block):
                block.give_back_input()
    of_heads = [name for name in ("head_bias", "decoder_bias") if getattr(before, name) != getattr(after, name)]
    if differing := [*_shapes_that_differ(encoder_class, before, after), *of_heads]:
        raise RecipeError(
            f"encoder: its {differing[0]} would have another shape than before",
            "options that change how many blocks there are, or no shape at all",
            "set num_layers alone, or begin with weights: fresh",
        )


def grow(encoder: Encoder, config: EncoderConfig, new_blocks: NewBlocks, generator: torch.Generator) -> Grown:
    """Return an encoder with the options `config` that begins with what `encoder` has learned.

    Args:
        encoder: trained; it is left as it is.
        config: `require_growth` allowed it.
        new_blocks: how new blocks begin.
        generator: draws what has no counterpart, such as the norm that only a family's first block lacks.
    """
    grown = empty_encoder(type(encoder), config)
    grown.to_empty(device="cpu")
    with torch.no_grad():
        grown.initialize(generator)
        old, new = encoder.state_dict(), grown.state_dict()
        origins: dict[str, str] = {}
        seen: set[int] = set()
        block_of = originals(len(encoder.blocks), len(grown.blocks), new_blocks)
        for name in new:
            if not name.startswith("blocks."):
                new[name].copy_(old[name])
                origins[name] = name
        for index, source in enumerate(block_of):
            for name in grown.blocks[index].state_dict():
                before = f"blocks.{source}.{name}"
                if before in old:
                    new[f"blocks.{index}.{name}"].copy_(old[before])
                    if source not in seen:
                        origins[f"blocks.{index}.{name}"] = before
            block = grown.blocks[index]
            if source in seen and new_blocks == "zero" and isinstance(block, Block):
                block.give_back_input()
            seen.add(source)
    return Grown(grown, origins)


def _shapes_that_differ(encoder_class: type[Encoder], before: EncoderConfig, after: EncoderConfig) -> list[str]:
    old, new = (
        {name: tensor.shape for name, tensor in empty_encoder(encoder_class, config).state_dict().items()}
        for config in (before, after)
    )
    return [name for name in old if old[name] != new.get(name)]
