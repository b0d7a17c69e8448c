"""Which weights learn, and how fast: full fine-tuning, BitFit, LoRA; layer-wise learning rates; weight decay."""

import re
from typing import Any

import torch
from torch import nn

from maskwright.core.errors import EvaluationError, MissingDependency
from maskwright.core.optional import load_optional
from maskwright.encoders.encoder import Encoder
from maskwright.evaluation.fine_tuning.settings import FineTuning, Lora

NUMBER_OF_BLOCK = re.compile(r"(?:^|\.)(\d+)\.")
"""The first number in a parameter's name is that of its block, in our encoders and in those of transformers."""


def adapt(encoder: Encoder, settings: FineTuning, generator: torch.Generator) -> None:
    """Decide which of an encoder's weights learn; with LoRA, add the new ones.

    Args:
        encoder: changed in place.
        settings: `adapt` and `lora`.
        generator: of LoRA's first weights.

    Raises:
        EvaluationError: BitFit of an encoder without biases.
        MissingDependency: LoRA without `peft`.
    """
    if settings.adapt == "bitfit":
        freeze_all_but_biases(encoder)
    elif settings.adapt == "lora":
        add_lora(encoder, settings.lora, generator)


def freeze_all_but_biases(encoder: Encoder) -> None:
    """Let only biases learn.

    Source: Ben Zaken et al. 2022, BitFit, arXiv:2106.10199.

    Raises:
        EvaluationError: there is no bias.
    """
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    if not any(parameter.requires_grad for parameter in encoder.parameters()):
        raise EvaluationError(
            f"adapt: bitfit trains biases, and the encoder ({type(encoder).__name__}) has none",
            "an encoder with biases, such as bert",
            "use training.adapt=lora or training.adapt=full",
        )


def add_lora(encoder: Encoder, lora: Lora, generator: torch.Generator) -> None:
    """Add low-rank updates to every linear layer of the encoder and freeze everything else.

    Source: Hu et al. 2021, LoRA, arXiv:2106.09685; all linear layers as Dettmers et al. 2023, arXiv:2305.14314,
    section 4, recommend.

    Raises:
        MissingDependency: `peft` is not installed.
    """
    try:
        peft = load_optional("peft")
    except ImportError as error:
        raise MissingDependency(
            "training.adapt=lora needs peft, which is not installed", "peft", "pip install 'maskwright[lora]'"
        ) from error
    names = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]
    options: dict[str, Any] = {"r": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout}
    peft.inject_adapter_in_model(peft.LoraConfig(target_modules=names, **options), encoder)
    for name, parameter in encoder.named_parameters():
        if ".lora_A." in name:  # drawn again from our generator, as peft draws it; lora_B is 0
            nn.init.kaiming_uniform_(parameter, a=5**0.5, generator=generator)


def depth_of(name: str, num_blocks: int) -> int:
    """Return how deep a parameter lies: 0 for embeddings, 1 to `num_blocks` for blocks, one more for all above."""
    if name.startswith("head."):
        return num_blocks + 1
    if found := NUMBER_OF_BLOCK.search(name):
        return int(found.group(1)) + 1
    return 0 if "embed" in name else num_blocks + 1


def parameter_groups(model: nn.Module, settings: FineTuning) -> list[dict[str, Any]]:
    """Return AdamW's groups of the weights that learn.

    Matrices decay; biases and norms don't. With `layer_decay` d, a block k blocks below the last has the learning rate
    times d ** (k + 1), the embeddings another d less, the head the full one (Clark et al. 2020, ELECTRA,
    arXiv:2003.10555, appendix B; depths counted as in BEiT, Bao et al. 2021, arXiv:2106.08254).
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    blocks = [int(found.group(1)) for name, _ in model.named_parameters() if (found := NUMBER_OF_BLOCK.search(name))]
    num_blocks = max(blocks, default=-1) + 1
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        depth = depth_of(name, num_blocks) if settings.layer_decay < 1 else num_blocks + 1
        groups.setdefault((depth, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": settings.peak_learning_rate * settings.layer_decay ** (num_blocks + 1 - depth),
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (depth, decays), parameters in groups.items()
    ]
