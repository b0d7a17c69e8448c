"""Every option of an encoder does something: it changes weights, hidden states, logits or costs, or it is refused.

`tests/contracts/test_options.py` says the same of the plug-ins whose options a recipe nests in an objective.
"""

import hashlib
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tests.contracts.test_options import changed, leaves, others

from maskwright.core.discovery import plug_in_names
from maskwright.core.errors import MaskwrightError
from maskwright.encoders.build import FAMILIES, build_encoder, load_family
from maskwright.encoders.flops import flops_per_token
from maskwright.export.folder import exporter_of
from maskwright.heads.vocabulary import VocabularyHead

SIZES = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 48}
CONTEXTS: dict[str, list[dict[str, Any]]] = {
    "modernbert": [{"local_attention": 8}],
    "albert": [{"embedding_size": 16}],
    "deberta": [{"absolute_positions": True, "num_segments": 2}],
    "deberta_v2": [{"absolute_positions": True, "num_segments": 2, "position_buckets": 8}],
}
"""Options under which the others are changed, where the defaults leave some unused."""

TOLD = {"pad_token_id", "cls_token_id", "sep_token_id", "max_positions"}
"""Options that an export tells to whoever loads it; all but the last follow from the tokenizer."""


def outcome(family: str, overrides: dict[str, Any], vocabulary, batch) -> str:
    """Return a checksum of what an encoder with some options is, gives and costs, or what was refused."""
    content = hashlib.sha256()
    try:
        encoder = build_encoder(family, None, SIZES | overrides, vocabulary, 64, 5).double().train()
        encoder.use_attention("reference")
        head = VocabularyHead(encoder.config, seed=5).double()
        torch.manual_seed(0)  # of dropout
        with torch.no_grad():
            x_TD = encoder(batch.input)
            content.update(x_TD.numpy().tobytes())
            content.update(head(x_TD, encoder.embedding_weight_VE).numpy().tobytes())
        for tensor in (*encoder.state_dict().values(), *head.state_dict().values()):
            content.update(f"{tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
        content.update(f"{flops_per_token(encoder.config, 32, 0.3)}".encode())
    except (ValidationError, MaskwrightError) as refusal:
        return f"refused: {refusal}"
    return content.hexdigest()


def told(family: str, overrides: dict[str, Any], vocabulary) -> str:
    """Return what `config.json` would say."""
    try:
        encoder = build_encoder(family, None, SIZES | overrides, vocabulary, 64, 5)
        return str(exporter_of(encoder).config_values(encoder.config, ["vocabulary"]))
    except (ValidationError, MaskwrightError) as refusal:
        return f"refused: {refusal}"


@pytest.mark.parametrize("family", [name for name in plug_in_names(FAMILIES) if not load_family(name).is_foreign])
def test_every_option_of_a_family_does_something(family, vocabulary, batch):
    idle: set[str] = set()
    for context in CONTEXTS.get(family, [{}]):
        config = build_encoder(family, None, SIZES | context, vocabulary, 64, 5).config
        before, said = outcome(family, context, vocabulary, batch), told(family, context, vocabulary)
        assert not before.startswith("refused"), before
        for (name,), value, annotation in leaves(config):
            wanted = [changed(context, (name,), other) for other in others(value, annotation)]
            if name in TOLD:
                does_something = any(told(family, each, vocabulary) != said for each in wanted)
            else:
                does_something = any(outcome(family, each, vocabulary, batch) != before for each in wanted)
            if not does_something:
                idle.add(name)
    assert not idle, f"these options of {family} do nothing: {', '.join(sorted(idle))}"
