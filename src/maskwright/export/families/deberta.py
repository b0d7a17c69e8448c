"""`deberta` as `DebertaForMaskedLM`."""

from collections.abc import Mapping
from typing import Any, ClassVar

from maskwright.core.errors import ExportError
from maskwright.encoders.families import deberta
from maskwright.export.families.base import (
    BERT_TRANSFORM,
    Exporter,
    HeadNames,
    TensorNames,
    bert_vocabulary_head,
    weights_and_biases,
)
from maskwright.heads.token_head import VOCABULARY

TERMS = {"c2p": "content_to_position", "p2c": "position_to_content"}
"""Their names of the two terms with positions, and ours."""


class Deberta(Exporter):
    """Both of their vocabulary heads compute the same; exports have the default one (`legacy`), imports either.

    Poolers, and the detector of DeBERTaV3, are not ours.
    """

    encoder_class = deberta.Deberta
    model_type = "deberta"
    heads: ClassVar[Mapping[str, HeadNames]] = {VOCABULARY: bert_vocabulary_head("DebertaForMaskedLM")}
    body_prefix = "deberta."
    options: ClassVar[Mapping[str, str]] = {
        "vocabulary_size": "vocab_size",
        "hidden_size": "hidden_size",
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "feed_forward_size": "intermediate_size",
        "max_positions": "max_position_embeddings",
        "pad_token_id": "pad_token_id",
        "initializer_range": "initializer_range",
        "norm_eps": "layer_norm_eps",
        "num_segments": "type_vocab_size",
        "absolute_positions": "position_biased_input",
        "hidden_dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob",
    }
    required: ClassVar[Mapping[str, Any]] = {
        "hidden_act": "gelu",
        "relative_attention": True,
        "tie_word_embeddings": True,
    }
    unused_tensors = (
        "deberta.embeddings.position_embeddings.",
        "deberta.embeddings.position_ids",
        "pooler.",
        "classifier.",
        "qa_outputs.",
        "mask_predictions.",
    )

    def encoder_tensors(self, config: Any) -> TensorNames:
        names: TensorNames = {
            "token_embedding.weight": ("embeddings.word_embeddings.weight",),
            "relative_embedding.weight": ("encoder.rel_embeddings.weight",),
        }
        if config.absolute_positions:
            names["position_embedding.weight"] = ("embeddings.position_embeddings.weight",)
        if config.num_segments:
            names["segment_embedding.weight"] = ("embeddings.token_type_embeddings.weight",)
        parts: TensorNames = {"embedding_norm": ("embeddings.LayerNorm",)}
        for index in range(config.num_layers):
            ours, theirs = f"blocks.{index}", f"encoder.layer.{index}"
            names |= self.projections(config, ours, f"{theirs}.attention.self")
            parts |= {
                f"{ours}.attention_out": (f"{theirs}.attention.output.dense",),
                f"{ours}.attention_norm": (f"{theirs}.attention.output.LayerNorm",),
                f"{ours}.feed_forward_in": (f"{theirs}.intermediate.dense",),
                f"{ours}.feed_forward_out": (f"{theirs}.output.dense",),
                f"{ours}.feed_forward_norm": (f"{theirs}.output.LayerNorm",),
            }
        names |= weights_and_biases(parts | self.further_parts(config))
        return {ours: tuple(self.body_prefix + name for name in theirs) for ours, theirs in names.items()}

    def projections(self, config: Any, ours: str, theirs: str) -> TensorNames:
        """Return the names of the tensors that project tokens and relative positions in one block."""
        names: TensorNames = {
            f"{ours}.qkv.weight": (f"{theirs}.in_proj.weight",),
            f"{ours}.q_bias": (f"{theirs}.q_bias",),
            f"{ours}.v_bias": (f"{theirs}.v_bias",),
        }
        if config.content_to_position:
            names[f"{ours}.position_key.weight"] = (f"{theirs}.pos_proj.weight",)
        if config.position_to_content:
            names |= weights_and_biases({f"{ours}.position_query": (f"{theirs}.pos_q_proj",)})
        return names

    def further_parts(self, config: Any) -> TensorNames:
        """Return the names of modules that only this version has."""
        return {}

    def tied_tensors(self) -> Mapping[str, str]:
        return {
            "cls.predictions.decoder.weight": "deberta.embeddings.word_embeddings.weight",
            "cls.predictions.decoder.bias": "cls.predictions.bias",
        }

    def canonical_name(self, name: str) -> str:
        """Return the name in the default vocabulary head."""
        name = name.replace("lm_predictions.lm_head.bias", "cls.predictions.bias")
        return name.replace("lm_predictions.lm_head.", f"{BERT_TRANSFORM}.")

    def further_keys(self, config: Any) -> dict[str, Any]:
        for option in ("norm_bias", "head_bias", "decoder_bias"):
            if not getattr(config, option):
                raise ExportError(
                    f"{option} is false, which no {self.heads[VOCABULARY].architecture} has", f"{option}: true"
                )
        return {
            "max_relative_positions": config.max_relative_positions or -1,
            "pos_att_type": [theirs for theirs, ours in TERMS.items() if getattr(config, ours)],
            "legacy": True,
            "bos_token_id": config.cls_token_id,
            "eos_token_id": config.sep_token_id,
        }

    def further_options(self, values: Mapping[str, Any]) -> dict[str, Any]:
        width = values["hidden_size"]
        their_only = {
            "embedding_size": width,
            "attention_head_size": width // values["num_attention_heads"],
            "talking_head": False,
            "conv_kernel_size": 0,
        }
        for key, value in their_only.items():
            if values.get(key, value) != value:
                raise ExportError(f"config.json: {key} is {values[key]!r}", f"{value!r}; this family has nothing else")
        terms = values["pos_att_type"] or []
        if not terms or not set(terms) <= set(TERMS):
            raise ExportError(f"config.json: pos_att_type is {terms!r}", "c2p, p2c or both")
        return {
            "max_relative_positions": max(0, values["max_relative_positions"]),
            "cls_token_id": values["bos_token_id"],
            "sep_token_id": values["eos_token_id"],
        } | {ours: theirs in terms for theirs, ours in TERMS.items()}
