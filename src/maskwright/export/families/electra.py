"""`electra` as `ElectraForMaskedLM`, or with a head that detects replaced tokens as `ElectraForPreTraining`."""

from collections.abc import Mapping
from typing import Any, ClassVar

from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.families import electra
from maskwright.encoders.families.bert import BertConfig
from maskwright.export.families.base import HeadNames, TensorNames, weights_and_biases
from maskwright.export.families.bert import Bert
from maskwright.heads.token_head import VOCABULARY

DETECTION = "detection"
"""The kind of head that says of every token whether it was replaced: a dense layer, and one logit."""


class Electra(Bert):
    """The body is BERT's under another name, with a projection where the embedding is narrower."""

    encoder_class = electra.Electra
    model_type = "electra"
    body_prefix = "electra."
    has_embedding_size = True
    heads: ClassVar = {
        VOCABULARY: HeadNames(
            "ElectraForMaskedLM",
            "AutoModelForMaskedLM",
            weights_and_biases(
                {
                    "transform.dense": ("generator_predictions.dense",),
                    "transform.norm": ("generator_predictions.LayerNorm",),
                }
            )
            | {"decoder.bias": ("generator_lm_head.bias",)},
        ),
        DETECTION: HeadNames(
            "ElectraForPreTraining",
            "AutoModelForPreTraining",
            weights_and_biases(
                {
                    "dense": ("discriminator_predictions.dense",),
                    "prediction": ("discriminator_predictions.dense_prediction",),
                }
            ),
        ),
    }
    unused_tensors = ("electra.embeddings.position_ids", "classifier.", "qa_outputs.")

    def encoder_tensors(self, config: EncoderConfig) -> TensorNames:
        names = super().encoder_tensors(config)
        if config.embedding_matrix_parameters():
            names |= weights_and_biases({"project_embedding": (f"{self.body_prefix}embeddings_project",)})
        return names

    def tied_tensors(self) -> Mapping[str, str]:
        return {"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"}

    def further_keys(self, config: BertConfig) -> dict[str, Any]:
        return super().further_keys(config) | {"embedding_size": config.embedding_width}

    def further_options(self, values: Mapping[str, Any]) -> dict[str, Any]:
        width = values["embedding_size"]
        return super().further_options(values) | {"embedding_size": width if width != values["hidden_size"] else None}
