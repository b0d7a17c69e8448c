"""An exported folder is what transformers expects, is verified, and is whole or absent."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast, pipeline

from maskwright.core.errors import ExportError
from maskwright.encoders.encoder import Encoder
from maskwright.export import export_model, import_model
from maskwright.export.families.base import HeadNames, weights_and_biases
from maskwright.export.families.bert import Bert
from maskwright.export.families.modernbert import Modernbert
from maskwright.heads.vocabulary import VocabularyHead

MakeModel = Callable[..., tuple[Encoder, VocabularyHead]]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("modernbert", {}),
    ("modernbert", {"local_attention": 6, "global_attention_every": 2, "global_rope_theta": 5e4}),
    ("modernbert", {"attention_bias": True, "feed_forward_bias": True, "norm_bias": True, "head_bias": True}),
    ("modernbert", {"decoder_bias": False, "num_layers": 1}),
    ("bert", {}),
    ("bert", {"num_segments": 3, "norm_eps": 1e-5}),
    ("electra", {}),
    ("electra", {"embedding_size": 16, "num_segments": 3}),
    ("albert", {"embedding_size": 16}),
    ("albert", {"embedding_size": 48, "num_layers": 3, "norm_eps": 1e-5}),
    ("deberta", {}),
    ("deberta", {"absolute_positions": True, "num_segments": 2, "max_relative_positions": 30}),
    ("deberta", {"position_to_content": False, "hidden_dropout": 0.1}),
    ("deberta_v2", {"position_buckets": 16}),
    ("deberta_v2", {"position_buckets": 0, "relative_norm": False, "shared_projections": False}),
    ("deberta_v2", {"content_to_position": False, "shared_projections": False}),
]


@pytest.mark.parametrize(("family", "overrides"), VARIANTS)
def test_an_export_comes_back_the_same(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, family: str, overrides: dict[str, Any]
) -> None:
    encoder, head = make_model(family, **overrides)
    record = export_model(encoder, {"vocabulary": head}, tokenizer, tmp_path / "model")
    assert record.family == family
    assert record.max_logit_difference < 2e-5
    assert record.num_compared_logits == (3 + 40 + 200 + 333) * 100
    again = import_model(tmp_path / "model")
    assert again.family == family
    assert again.encoder.config == encoder.config
    for ours, theirs in ((encoder, again.encoder), (head, again.head)):
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        assert all(torch.equal(weight, theirs.state_dict()[name]) for name, weight in ours.state_dict().items())
        assert all(parameter.requires_grad for parameter in theirs.parameters())


def test_the_folder_holds_what_readers_old_and_new_look_for(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    encoder, head = make_model("modernbert", global_rope_theta=8e4, local_rope_theta=2e4)
    export_model(encoder, {"vocabulary": head}, tokenizer, folder)
    names = {"SHA256SUMS", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in folder.iterdir()} == names
    assert len({stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}) == 1
    config = json.loads((folder / "config.json").read_text())
    assert (config["global_rope_theta"], config["local_rope_theta"], config["global_attn_every_n_layers"]) == (
        8e4,
        2e4,
        3,
    )
    assert config["rope_parameters"]["sliding_attention"] == {"rope_type": "default", "rope_theta": 2e4}
    assert config["layer_types"] == ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    assert [config[f"{role}_token_id"] for role in ("pad", "cls", "sep", "bos", "eos")] == [0, 2, 3, 2, 3]
    assert config["dtype"] == config["torch_dtype"] == "float32"
    tokenizer_config = json.loads((folder / "tokenizer_config.json").read_text())
    assert tokenizer_config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert tokenizer_config["model_max_length"] == 350
    tensors = load_file(folder / "model.safetensors")
    assert "decoder.weight" not in tensors and "decoder.bias" in tensors
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())


@pytest.mark.parametrize("family", ["modernbert", "bert", "deberta", "deberta_v2"])
def test_fill_mask_and_the_tokenizer_work_without_our_code(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, family: str
) -> None:
    encoder, head = make_model(family)
    export_model(encoder, {"vocabulary": head}, tokenizer, tmp_path / "model")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "model")
    fill = pipeline("fill-mask", model=AutoModelForMaskedLM.from_pretrained(tmp_path / "model"), tokenizer=loaded)
    answers = fill("w1 [MASK] w3", top_k=2)
    assert len(answers) == 2 and 0 < answers[0]["score"] <= 1


def test_export_leaves_the_model_and_tokenizer_alone(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    encoder, head = make_model("modernbert", feed_forward_dropout=0.1)
    encoder.train().use_attention("padded")
    backend, limit = encoder.attention, tokenizer.model_max_length
    state = torch.get_rng_state()
    export_model(encoder, {"vocabulary": head}, tokenizer, tmp_path / "model")
    assert encoder.training and encoder.attention is backend
    assert tokenizer.model_max_length == limit
    assert torch.equal(torch.get_rng_state(), state)


def test_an_export_that_answers_differently_is_refused_and_the_old_folder_kept(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, head = make_model("modernbert")
    folder = tmp_path / "model"
    export_model(encoder, {"vocabulary": head}, tokenizer, folder)
    before = (folder / "model.safetensors").read_bytes()

    right_names = Modernbert.encoder_tensors

    def swapped(self: Modernbert, config: Any) -> dict[str, tuple[str, ...]]:
        names = right_names(self, config)
        first, second = "blocks.1.attention_norm.weight", "blocks.1.feed_forward_norm.weight"
        return names | {first: names[second], second: names[first]}

    monkeypatch.setattr(Modernbert, "encoder_tensors", swapped)
    with pytest.raises(ExportError, match="answers differently"):
        export_model(encoder, {"vocabulary": head}, tokenizer, folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_weights_that_are_not_finite_are_refused(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    encoder, head = make_model("bert")
    with torch.no_grad():
        encoder.embedding_weight_VE[7, 0] = float("nan")
    with pytest.raises(ExportError, match="nan"):
        export_model(encoder, {"vocabulary": head}, tokenizer, tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("family", "overrides", "message"),
    [
        ("bert", {"norm_position": "pre"}, "norm_position is 'pre'"),
        ("bert", {"head_bias": False}, "head_bias is false"),
        ("deberta_v2", {"norm_bias": False}, "norm_bias is false, which no DebertaV2ForMaskedLM has"),
    ],
)
def test_what_transformers_does_not_have_is_refused_by_its_key(
    make_model: MakeModel,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    family: str,
    overrides: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(ExportError, match=message):
        encoder, head = make_model(family, **overrides)
        export_model(encoder, {"vocabulary": head}, tokenizer, tmp_path / "model")


def test_a_misspelt_key_is_noticed(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Modernbert, "required", {**Modernbert.required, "hiden_activation": "gelu"})
    with pytest.raises(ExportError, match="hiden_activation is not a key of ModernBertConfig"):
        encoder, head = make_model("modernbert")
        export_model(encoder, {"vocabulary": head}, tokenizer, tmp_path / "model")


def test_a_tokenizer_of_another_size_is_refused(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tokenizer.add_tokens(["further"])
    with pytest.raises(ExportError, match="the tokenizer has 101 tokens, the model 100"):
        encoder, head = make_model("bert")
        export_model(encoder, {"vocabulary": head}, tokenizer, tmp_path / "model")


def test_a_family_without_an_exporter_is_refused(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, head = make_model("bert")
    monkeypatch.setattr(type(encoder), "exporter", None)
    with pytest.raises(ExportError, match="no exporter"):
        export_model(encoder, {"vocabulary": head}, tokenizer, tmp_path / "model")


class NextSentenceHead(nn.Module):
    """BERT's pooler and its answer to a question about pairs of sentences."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pooler, self.relation = nn.Linear(width, width), nn.Linear(width, 2)

    def forward(self, x_SD: torch.Tensor) -> torch.Tensor:
        return self.relation(self.pooler(x_SD).tanh())


def test_a_head_that_reads_whole_sequences(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, _ = make_model("bert")
    names = weights_and_biases({"pooler": ("bert.pooler.dense",), "relation": ("cls.seq_relationship",)})
    heads = {
        "order": HeadNames("BertForNextSentencePrediction", "AutoModelForNextSentencePrediction", names, "sequences")
    }
    monkeypatch.setattr(Bert, "heads", heads)
    record = export_model(encoder, {"order": NextSentenceHead(32)}, tokenizer, tmp_path / "model")
    assert record.architecture == "BertForNextSentencePrediction"
    assert record.num_compared_logits == 4 * 2


def test_a_head_of_an_unknown_kind(make_model: MakeModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    encoder, head = make_model("bert")
    with pytest.raises(ExportError, match="kind 'order', and the export of Bert has no class"):
        export_model(encoder, {"vocabulary": head, "order": NextSentenceHead(32)}, tokenizer, tmp_path / "model")
