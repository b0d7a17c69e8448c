"""`albert` as `AlbertForMaskedLM`."""

from collections.abc import Mapping
from typing import Any, ClassVar

from maskwright.core.errors import ExportError
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.families import albert
from maskwright.encoders.families.bert import BertConfig
from maskwright.export.families.base import TensorNames, vocabulary_head
from maskwright.export.families.bert import Bert
from maskwright.heads.token_head import VOCABULARY

BLOCK = "encoder.albert_layer_groups.0.albert_layers.0"


class Albert(Bert):
    """One group with one block in it."""

    encoder_class = albert.Albert
    model_type = "albert"
    body_prefix = "albert."
    has_embedding_size = True
    heads: ClassVar = {
        VOCABULARY: vocabulary_head(
            "AlbertForMaskedLM", "predictions.dense", "predictions.LayerNorm", "predictions.bias"
        )
    }
    required: ClassVar = {
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "num_hidden_groups": 1,
        "inner_group_num": 1,
        "tie_word_embeddings": True,
    }
    unused_tensors = ("albert.pooler.", "albert.embeddings.position_ids", "sop_classifier.", "classifier.")

    def parts(self, config: EncoderConfig) -> TensorNames:
        return {
            "embedding_norm": ("embeddings.LayerNorm",),
            "project_embedding": ("encoder.embedding_hidden_mapping_in",),
            "blocks.0.qkv": tuple(f"{BLOCK}.attention.{part}" for part in ("query", "key", "value")),
            "blocks.0.attention_out": (f"{BLOCK}.attention.dense",),
            "blocks.0.attention_norm": (f"{BLOCK}.attention.LayerNorm",),
            "blocks.0.feed_forward_in": (f"{BLOCK}.ffn",),
            "blocks.0.feed_forward_out": (f"{BLOCK}.ffn_output",),
            "blocks.0.feed_forward_norm": (f"{BLOCK}.full_layer_layer_norm",),
        }

    def tied_tensors(self) -> Mapping[str, str]:
        return {
            "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
            "predictions.decoder.bias": "predictions.bias",
        }

    def further_keys(self, config: BertConfig) -> dict[str, Any]:
        if not config.embedding_matrix_parameters():
            raise ExportError(
                "embedding_size is the hidden size, and AlbertForMaskedLM projects embeddings always",
                "a narrower embedding, such as encoder.overrides.embedding_size: 128",
            )
        return super().further_keys(config)
