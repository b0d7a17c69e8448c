"""The masked encoders that transformers has: their options by name, and models of them."""

import contextlib
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import logging

from maskwright.core.errors import RecipeError, suggest_nearest

NO_LIMIT = 1 << 20
"""Longest sequence of models whose positions have no end."""

POSITIONS = "max_position_embeddings"

FOREIGN_FAILURES = (
    *(StrictDataclassError, SafetensorError, OSError, ValueError, TypeError, RuntimeError),
    *(LookupError, AttributeError, AssertionError),
)
"""What classes of transformers raise where options or a folder are damaged, or they need more than token ids."""

READ_FROM_CONFIG = re.compile(r"""\bconfig\.([a-z]\w*)|getattr\((?:self\.)?config, ["'](\w+)["']""")


def keys_of(model_type: str) -> frozenset[str]:
    """Return the keys of an architecture's configuration that decide what the model is.

    They are those that its class declares, and those that its code reads besides them (DeBERTa v2's buckets).

    Raises:
        RecipeError: transformers has no masked encoder of this type.
    """
    if model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        known = sorted(MODEL_FOR_MASKED_LM_MAPPING_NAMES)
        raise RecipeError(
            f"encoder: transformers has no masked encoder with the model_type {model_type!r}"
            f"{suggest_nearest(model_type, known)}",
            "one that AutoModelForMaskedLM knows, such as bert, roberta, electra, albert, deberta or modernbert",
        )
    config_class = CONFIG_MAPPING[model_type]
    declared = {field.name for field in fields(config_class)} | set(config_class.attribute_map)
    of_every_model = {field.name for field in fields(PretrainedConfig)}
    return frozenset((declared | _keys_read_by(config_class)) - of_every_model)


def _keys_read_by(config_class: type[PretrainedConfig]) -> set[str]:
    """Return the names of data that the code of an architecture reads from its configuration."""
    source = inspect.getsource(sys.modules[AutoModelForMaskedLM._model_mapping[config_class].__module__])
    names = {name for names in READ_FROM_CONFIG.findall(source) for name in names if name}
    return {name for name in names if not hasattr(PretrainedConfig, name)}


def own_values(config: PretrainedConfig) -> dict[str, Any]:
    """Return what decides which model a configuration describes, by key; all of it, whatever the defaults are."""
    known = keys_of(config.model_type) - set(config.attribute_map)
    # As they come back from config.json: lists for tuples, for example.
    return json.loads(json.dumps({key: value for key, value in config.to_dict().items() if key in known}))


def config_of(model_type: str, values: Mapping[str, Any]) -> PretrainedConfig:
    """Return the configuration of a masked encoder.

    Args:
        model_type: transformers' name of the architecture.
        values: where it differs from the defaults, under transformers' keys.

    Raises:
        RecipeError: no such architecture, a value it does not take, or a decoder.
    """
    keys_of(model_type)
    try:
        with quiet_transformers():
            config = CONFIG_MAPPING[model_type](**values)
    except FOREIGN_FAILURES as error:
        raise _refused(model_type, error) from error
    if key := decoder_key(config):
        raise RecipeError(f"encoder: {model_type} with {key}: true is no masked encoder", f"{key}: false")
    return config


def decoder_key(config: PretrainedConfig) -> str | None:
    """Return the key that makes a model other than an encoder that reads from both sides; None if none does."""
    keys = ("is_encoder_decoder", "is_decoder", "add_cross_attention")
    return next((key for key in keys if getattr(config, key, False)), None)


def empty_model(config: PretrainedConfig) -> PreTrainedModel:
    """Return a model with its head and without storage (on the meta device).

    Raises:
        RecipeError: the values don't go together.
    """
    try:
        with torch.device("meta"):
            return _from_config(config)
    except FOREIGN_FAILURES as error:
        raise _refused(config.model_type, error) from error


def drawn_model(config: PretrainedConfig, generator: torch.Generator) -> PreTrainedModel:
    """Return a model with its head, float32 on the CPU, its weights drawn by its own code."""
    with torch.random.fork_rng(devices=[]):
        # The code of transformers draws from torch's own generator; it is left as it was.
        torch.set_rng_state(generator.get_state())
        return _from_config(config)


@torch.no_grad()
def require_padding_is_ignored(model: PreTrainedModel) -> None:
    """Refuse a model in which a sequence's hidden states depend on what its batch is padded with.

    Raises:
        RecipeError: they do, or the model does not run on token ids alone.
    """
    pad_id, length = number(model.config, "pad_token_id"), 5
    ids_L = torch.tensor([position + 1 if position >= pad_id else position for position in range(17)])
    padded_2L = torch.stack([ids_L, torch.where(torch.arange(17) < length, ids_L, pad_id)])
    mask_2L = torch.stack([torch.ones_like(ids_L), (torch.arange(17) < length).long()])
    was_training = model.training
    try:
        model.eval()
        alone_LD = model.base_model(input_ids=ids_L[None, :length])[0][0]
        padded_LD = model.base_model(input_ids=padded_2L, attention_mask=mask_2L)[0][1, :length]
    except FOREIGN_FAILURES as error:
        raise _refused(model.config.model_type, error) from error
    finally:
        model.train(was_training)
    if not torch.allclose(alone_LD, padded_LD, atol=1e-3 * float(alone_LD.abs().max()), rtol=0):
        raise RecipeError(
            f"encoder: a {model.config.model_type} gives a sequence other hidden states in a padded batch",
            "an architecture in which padding makes no difference",
        )


def _from_config(config: PretrainedConfig) -> PreTrainedModel:
    with quiet_transformers():
        return AutoModelForMaskedLM.from_config(config, dtype=torch.float32)


def _refused(model_type: str, error: Exception) -> RecipeError:
    reason = " ".join(str(error).split())[:200]
    return RecipeError(
        f"encoder: transformers refuses these options of {model_type}: {reason}", "options that it takes"
    )


def layers_of(body: nn.Module) -> nn.ModuleList:
    """Return the blocks: the longest list of modules; empty if there is none."""
    lists = [part for part in body.modules() if isinstance(part, nn.ModuleList)]
    return max(lists, key=len, default=nn.ModuleList())


def position_limit(body: PreTrainedModel) -> int:
    """Return the longest sequence a model takes, specials included.

    RoBERTa and similar models have 514 positions and count from the one after padding's, so 512 are left.
    """
    size = number(body.config, POSITIONS)
    for name, part in body.named_modules():
        if isinstance(part, nn.Embedding) and "position" in name and part.num_embeddings == size:
            return size if part.padding_idx is None else size - part.padding_idx - 1
    return size or NO_LIMIT


def number(config: PretrainedConfig, *keys: str) -> int:
    """Return a whole number of a configuration, by the first key that has one; 0 if none has."""
    values = (getattr(config, key, 0) for key in keys)
    return next((value for value in values if isinstance(value, int) and value), 0)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' reports and progress bars from the user, who gets messages of ours."""
    verbosity, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()
