"""`bert` with norms after the parts as `BertForMaskedLM`."""

from collections.abc import Mapping
from typing import Any, ClassVar

from maskwright.core.errors import ExportError
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.families import bert
from maskwright.export.families.base import Exporter, HeadNames, TensorNames, bert_vocabulary_head, weights_and_biases
from maskwright.heads.token_head import VOCABULARY


class Bert(Exporter):
    """Fused queries, keys and values become three matrices. The pooler and next-sentence head are not ours."""

    encoder_class = bert.Bert
    model_type = "bert"
    heads: ClassVar[Mapping[str, HeadNames]] = {VOCABULARY: bert_vocabulary_head("BertForMaskedLM")}
    body_prefix = "bert."
    options: ClassVar = {
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
        "hidden_dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob",
    }
    required: ClassVar = {
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
        "tie_word_embeddings": True,
    }
    keys_of_other_readers = Exporter.keys_of_other_readers | {"position_embedding_type"}
    unused_tensors = (
        "bert.pooler.",
        "bert.embeddings.position_ids",
        "cls.seq_relationship.",
        "classifier.",
        "qa_outputs.",
    )

    def encoder_tensors(self, config: EncoderConfig) -> TensorNames:
        names: TensorNames = {
            "token_embedding.weight": ("embeddings.word_embeddings.weight",),
            "position_embedding.weight": ("embeddings.position_embeddings.weight",),
            "segment_embedding.weight": ("embeddings.token_type_embeddings.weight",),
        }
        names |= weights_and_biases(self.parts(config))
        return {ours: tuple(self.body_prefix + name for name in theirs) for ours, theirs in names.items()}

    def parts(self, config: EncoderConfig) -> TensorNames:
        """Return the names of the modules that have a weight and a bias each, without the body's prefix."""
        parts: TensorNames = {"embedding_norm": ("embeddings.LayerNorm",)}
        for index in range(config.num_layers):
            ours, theirs = f"blocks.{index}", f"encoder.layer.{index}"
            attention = f"{theirs}.attention"
            parts |= {
                f"{ours}.qkv": tuple(f"{attention}.self.{part}" for part in ("query", "key", "value")),
                f"{ours}.attention_out": (f"{attention}.output.dense",),
                f"{ours}.attention_norm": (f"{attention}.output.LayerNorm",),
                f"{ours}.feed_forward_in": (f"{theirs}.intermediate.dense",),
                f"{ours}.feed_forward_out": (f"{theirs}.output.dense",),
                f"{ours}.feed_forward_norm": (f"{theirs}.output.LayerNorm",),
            }
        return parts

    def tied_tensors(self) -> Mapping[str, str]:
        return {
            "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
            "cls.predictions.decoder.bias": "cls.predictions.bias",
        }

    def canonical_name(self, name: str) -> str:
        """Return the name in today's spelling; files converted from TensorFlow say gamma and beta."""
        return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")

    def further_keys(self, config: bert.BertConfig) -> dict[str, Any]:
        if config.norm_position != "post":
            raise ExportError(
                f"norm_position is {config.norm_position!r}, which no Bert* class of transformers has",
                "norm_position: post",
                "train with norm_position: post, or with the family modernbert, whose norms come first",
            )
        for option in ("norm_bias", "head_bias", "decoder_bias"):
            if not getattr(config, option):
                raise ExportError(f"{option} is false, which no Bert* class of transformers has", f"{option}: true")
        return {"bos_token_id": config.cls_token_id, "eos_token_id": config.sep_token_id}

    def further_options(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {"cls_token_id": values["bos_token_id"], "sep_token_id": values["eos_token_id"]}
