"""`electra` as `ElectraForMaskedLM`, or with a head that detects replaced tokens as `ElectraForPreTraining`."""

from collections.abc import Mapping
from typing import ClassVar

from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.families import electra
from maskwright.export.families.base import HeadNames, TensorNames, vocabulary_head, weights_and_biases
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
        VOCABULARY: vocabulary_head(
            "ElectraForMaskedLM",
            "generator_predictions.dense",
            "generator_predictions.LayerNorm",
            "generator_lm_head.bias",
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

    def parts(self, config: EncoderConfig) -> TensorNames:
        projection: TensorNames = {"project_embedding": ("embeddings_project",)}
        return super().parts(config) | (projection if config.embedding_matrix_parameters() else {})

    def tied_tensors(self) -> Mapping[str, str]:
        return {"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"}
