"""`deberta_v2` as `DebertaV2ForMaskedLM`: DeBERTa of the second and third version."""

from collections.abc import Mapping
from typing import Any, ClassVar

from maskwright.core.errors import ExportError
from maskwright.encoders.families import deberta_v2
from maskwright.export.families.base import TensorNames, bert_vocabulary_head, weights_and_biases
from maskwright.export.families.deberta import Deberta
from maskwright.heads.token_head import VOCABULARY

NORMS = {"none": False, "layer_norm": True}
"""Their names for what comes after the table of relative positions."""


class DebertaV2(Deberta):
    """Fused queries, keys and values become three matrices."""

    encoder_class = deberta_v2.DebertaV2
    model_type = "deberta-v2"
    heads: ClassVar = {VOCABULARY: bert_vocabulary_head("DebertaV2ForMaskedLM")}
    # Their class reads these three, and does not declare them.
    keys_of_other_readers = Deberta.keys_of_other_readers | {"position_buckets", "share_att_key", "norm_rel_ebd"}

    def projections(self, config: deberta_v2.DebertaV2Config, ours: str, theirs: str) -> TensorNames:
        parts: TensorNames = {f"{ours}.qkv": tuple(f"{theirs}.{name}_proj" for name in ("query", "key", "value"))}
        if config.content_to_position and not config.shared_projections:
            parts[f"{ours}.position_key"] = (f"{theirs}.pos_key_proj",)
        if config.position_to_content and not config.shared_projections:
            parts[f"{ours}.position_query"] = (f"{theirs}.pos_query_proj",)
        return weights_and_biases(parts)

    def further_parts(self, config: deberta_v2.DebertaV2Config) -> TensorNames:
        return {"relative_norm": ("encoder.LayerNorm",)} if config.relative_norm else {}

    def further_keys(self, config: deberta_v2.DebertaV2Config) -> dict[str, Any]:
        norm = {is_there: name for name, is_there in NORMS.items()}[config.relative_norm]
        return super().further_keys(config) | {
            "position_buckets": config.position_buckets or -1,
            "share_att_key": config.shared_projections,
            "norm_rel_ebd": norm,
        }

    def further_options(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """See `Exporter`; the keys that their class does not declare have the defaults that it gives them."""
        norm = values.get("norm_rel_ebd", "none")
        if norm not in NORMS:
            raise ExportError(f"config.json: norm_rel_ebd is {norm!r}", "none or layer_norm")
        return super().further_options(values) | {
            "position_buckets": max(0, values.get("position_buckets", -1)),
            "shared_projections": values.get("share_att_key", False),
            "relative_norm": NORMS[norm],
        }
