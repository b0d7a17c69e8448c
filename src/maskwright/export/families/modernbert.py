"""`modernbert` as `ModernBertForMaskedLM`, with the keys of transformers 4 and 5 and of other readers."""

from collections.abc import Mapping
from typing import Any, ClassVar

from maskwright.core.errors import ExportError
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.families import modernbert
from maskwright.export.families.base import Exporter, TensorNames, vocabulary_head
from maskwright.heads.token_head import VOCABULARY

GLOBAL, LOCAL = "full_attention", "sliding_attention"


class Modernbert(Exporter):
    """Nothing is lost in either direction."""

    encoder_class = modernbert.Modernbert
    model_type = "modernbert"
    heads: ClassVar = {VOCABULARY: vocabulary_head("ModernBertForMaskedLM", "head.dense", "head.norm", "decoder.bias")}
    body_prefix = "model."
    options: ClassVar = {
        "vocabulary_size": "vocab_size",
        "hidden_size": "hidden_size",
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "feed_forward_size": "intermediate_size",
        "max_positions": "max_position_embeddings",
        "pad_token_id": "pad_token_id",
        "cls_token_id": "cls_token_id",
        "sep_token_id": "sep_token_id",
        "initializer_range": "initializer_range",
        "norm_eps": "norm_eps",
        "norm_bias": "norm_bias",
        "head_bias": "classifier_bias",
        "decoder_bias": "decoder_bias",
        "attention_bias": "attention_bias",
        "feed_forward_bias": "mlp_bias",
        "local_attention": "local_attention",
        "attention_dropout": "attention_dropout",
        "embedding_dropout": "embedding_dropout",
        "feed_forward_dropout": "mlp_dropout",
    }
    required: ClassVar = {"hidden_activation": "gelu", "classifier_activation": "gelu", "tie_word_embeddings": True}
    keys_of_other_readers = Exporter.keys_of_other_readers | {
        "global_attn_every_n_layers",
        "global_rope_theta",
        "local_rope_theta",
        "layer_norm_eps",
    }
    unused_tensors = ("classifier.", "head.")

    def encoder_tensors(self, config: EncoderConfig) -> TensorNames:
        names = {
            "token_embedding.weight": "embeddings.tok_embeddings.weight",
            **_with_bias("embedding_norm", "embeddings.norm"),
            **_with_bias("output_norm", "final_norm"),
        }
        parts = {
            "attention_norm": "attn_norm",
            "qkv": "attn.Wqkv",
            "attention_out": "attn.Wo",
            "feed_forward_norm": "mlp_norm",
            "feed_forward_in": "mlp.Wi",
            "feed_forward_out": "mlp.Wo",
        }
        for index in range(config.num_layers):
            for ours, theirs in parts.items():
                names |= _with_bias(f"blocks.{index}.{ours}", f"layers.{index}.{theirs}")
        return {ours: (self.body_prefix + theirs,) for ours, theirs in names.items()}

    def tied_tensors(self) -> Mapping[str, str]:
        return {"decoder.weight": "model.embeddings.tok_embeddings.weight"}

    def further_keys(self, config: modernbert.ModernbertConfig) -> dict[str, Any]:
        """See `Exporter`; both spellings of the layers' windows and rotary bases."""
        return {
            "layer_types": [GLOBAL if window is None else LOCAL for window in config.attention_windows()],
            "rope_parameters": {
                GLOBAL: {"rope_type": "default", "rope_theta": config.global_rope_theta},
                LOCAL: {"rope_type": "default", "rope_theta": config.local_rope_theta},
            },
            "global_attn_every_n_layers": config.global_attention_every,
            "global_rope_theta": config.global_rope_theta,
            "local_rope_theta": config.local_rope_theta,
            "layer_norm_eps": config.norm_eps,
            "initializer_cutoff_factor": 2.0,
            "bos_token_id": config.cls_token_id,
            "eos_token_id": config.sep_token_id,
        }

    def further_options(self, values: Mapping[str, Any]) -> dict[str, Any]:
        thetas = {}
        for kind in (GLOBAL, LOCAL):
            rope = values["rope_parameters"][kind]
            if rope.get("rope_type", "default") != "default":
                raise ExportError(
                    f"config.json: rope_parameters: {kind}: rope_type is {rope['rope_type']!r}", "'default'"
                )
            thetas[kind] = float(rope["rope_theta"])
        return {
            "global_attention_every": _global_attention_every(values),
            "global_rope_theta": thetas[GLOBAL],
            "local_rope_theta": thetas[LOCAL],
        }


def _with_bias(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{part}": f"{theirs}.{part}" for part in ("weight", "bias")}


def _global_attention_every(values: Mapping[str, Any]) -> int:
    """Return n, if every n-th layer is global, counted from the first; the old key decides where several would do."""
    layer_types = values["layer_types"]
    for every in (values.get("global_attn_every_n_layers", 1), *range(1, len(layer_types) + 1)):
        if layer_types == [LOCAL if index % every else GLOBAL for index in range(len(layer_types))]:
            return every
    raise ExportError(f"config.json: layer_types is {layer_types}", "global attention in every n-th layer")
