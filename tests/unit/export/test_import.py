"""Model folders that can't be read faithfully are refused, naming what is in the way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from maskwright.core.errors import ExportError
from maskwright.core.integrity import SUMS
from maskwright.encoders.encoder import Encoder
from maskwright.encoders.families.bert import BertConfig
from maskwright.export import export_model, import_model, import_native_model
from maskwright.heads.vocabulary import VocabularyHead

MakeModel = Callable[..., tuple[Encoder, VocabularyHead]]
Folders = dict[str, Path]


@pytest.fixture
def folders(make_model: MakeModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Folders:
    families = ("modernbert", "bert", "deberta_v2")
    for family in families:
        encoder, head = make_model(family)
        export_model(encoder, {"vocabulary": head}, tokenizer, tmp_path / family)
        (tmp_path / family / SUMS).unlink()  # as folders of others are
    return {family: tmp_path / family for family in families}


def edit_config(folder: Path, removed: tuple[str, ...] = (), **changes: Any) -> None:
    path = folder / "config.json"
    values = {key: value for key, value in json.loads(path.read_text()).items() if key not in removed}
    path.write_text(json.dumps(values | changes))


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("bert", {"model_type": "roberta", "architectures": ["RobertaForMaskedLM"]}, "RobertaForMaskedLM"),
        ("bert", {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ("bert", {"is_decoder": True}, "is_decoder is True"),
        ("bert", {"hidden_size": 30}, "not an even multiple"),
        ("bert", {"intermediate_size": 64}, r"intermediate.dense.weight has the shape \[48, 32\]"),
        ("modernbert", {"hidden_activation": "silu"}, "hidden_activation is 'silu'"),
        ("modernbert", {"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ("modernbert", {"layer_types": ["sliding_attention", *["full_attention"] * 3]}, "layer_types is"),
        (
            "modernbert",
            {
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                }
            },
            "rope_type is 'linear'",
        ),
        ("modernbert", {"num_hidden_layers": 3, "layer_types": None}, "layers.3.attn.Wo.weight has no place"),
        ("modernbert", {"num_hidden_layers": 5, "layer_types": None}, "lack model.layers.4"),
        ("deberta_v2", {"conv_kernel_size": 3, "conv_act": "gelu"}, "conv_kernel_size is 3"),
        ("deberta_v2", {"embedding_size": 16}, "embedding_size is 16"),
        ("deberta_v2", {"relative_attention": False}, "relative_attention is False"),
        ("deberta_v2", {"pos_att_type": ["p2p"]}, r"pos_att_type is \['p2p'\]"),
        ("deberta_v2", {"norm_rel_ebd": "batch_norm"}, "norm_rel_ebd is 'batch_norm'"),
        ("deberta_v2", {"share_att_key": False}, "lack deberta.encoder.layer.0.attention.self.pos_key_proj.weight"),
    ],
)
def test_what_our_families_do_not_have_is_refused(
    folders: Folders, family: str, changes: dict[str, Any], message: str
) -> None:
    edit_config(folders[family], **changes)
    with pytest.raises(ExportError, match=message):
        import_native_model(folders[family])


def test_a_folder_that_is_none_is_refused(tmp_path: Path, folders: Folders) -> None:
    with pytest.raises(ExportError, match=r"config\.json does not exist"):
        import_model(tmp_path / "missing")
    (folders["bert"] / "config.json").write_text("{")
    with pytest.raises(ExportError, match="is not JSON"):
        import_model(folders["bert"])
    (folders["modernbert"] / "model.safetensors").unlink()
    with pytest.raises(ExportError, match=r"no model\.safetensors"):
        import_model(folders["modernbert"])


def test_truncated_weights_are_refused(folders: Folders) -> None:
    path = folders["bert"] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ExportError, match="can't be read"):
        import_model(folders["bert"])


def test_an_untied_decoder_is_refused_and_a_tied_copy_accepted(folders: Folders) -> None:
    name = "model.embeddings.tok_embeddings.weight"
    edit_tensors(folders["modernbert"], lambda tensors: tensors | {"decoder.weight": tensors[name].clone()})
    import_model(folders["modernbert"])
    edit_tensors(folders["modernbert"], lambda tensors: tensors | {"decoder.weight": tensors[name] + 1})
    with pytest.raises(ExportError, match=r"decoder\.weight differs"):
        import_model(folders["modernbert"])


def test_old_spellings_are_understood(folders: Folders) -> None:
    expected = import_model(folders["bert"]).encoder.state_dict()
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def respell(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        for today, before in old.items():
            tensors = {name.replace(today, before): tensor for name, tensor in tensors.items()}
        return tensors

    edit_tensors(folders["bert"], respell)
    got = import_model(folders["bert"]).encoder.state_dict()
    assert all(torch.equal(weight, got[name]) for name, weight in expected.items())


def test_the_names_of_published_deberta_models_are_understood(folders: Folders) -> None:
    """They have the other vocabulary head, a detector, absolute positions that nothing reads, and terms as a string."""
    folder = folders["deberta_v2"]
    before = import_native_model(folder)
    edit_config(folder, removed=("pos_att_type", "legacy"), pos_att_type="p2c|c2p", legacy=False)
    transform, theirs = "cls.predictions.transform.", "lm_predictions.lm_head."

    def respell(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        renamed = {
            name.replace(transform, theirs).replace("cls.predictions.bias", f"{theirs}bias"): tensor
            for name, tensor in tensors.items()
        }
        unused = ("mask_predictions.dense.weight", "deberta.embeddings.position_embeddings.weight")
        return renamed | {name: torch.zeros(3, 3) for name in unused}

    edit_tensors(folder, respell)
    after = import_native_model(folder)
    assert after.has_trained_head
    assert after.encoder.config == before.encoder.config
    for old, new in ((before.encoder, after.encoder), (before.head, after.head)):
        assert all(torch.equal(weight, new.state_dict()[name]) for name, weight in old.state_dict().items())


def test_old_and_new_rotary_keys_mean_the_same(
    make_model: MakeModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    encoder, head = make_model("modernbert", global_rope_theta=8e4, local_rope_theta=2e4, global_attention_every=2)
    for removed in (
        ("layer_types", "rope_parameters"),
        ("global_rope_theta", "local_rope_theta", "global_attn_every_n_layers"),
    ):
        export_model(encoder, {"vocabulary": head}, tokenizer, tmp_path / "model")
        (tmp_path / "model" / SUMS).unlink()
        edit_config(tmp_path / "model", removed=removed)
        assert import_model(tmp_path / "model").encoder.config == encoder.config


def test_a_body_without_a_head_gets_a_fresh_one(folders: Folders) -> None:
    whole = import_native_model(folders["modernbert"])
    assert whole.has_trained_head
    expected = whole.encoder.state_dict()
    edit_tensors(
        folders["modernbert"],
        lambda tensors: {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")},
    )
    imported = import_native_model(folders["modernbert"])
    assert not imported.has_trained_head
    got = imported.encoder.state_dict()
    assert all(torch.equal(weight, got[name]) for name, weight in expected.items())
    assert imported.head.transform.dense.weight.abs().max() > 0


def test_weights_in_several_files_and_half_precision_are_read(folders: Folders) -> None:
    folder = folders["bert"]
    tensors = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    names = sorted(tensors)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, held in halves.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    weight_map = {name: file for file, held in halves.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()
    imported = import_model(folder)
    assert imported.encoder.embedding_weight_VE.dtype == torch.float32
    torch.testing.assert_close(
        imported.encoder.embedding_weight_VE.detach(), tensors["bert.embeddings.word_embeddings.weight"].float()
    )


def test_dropout_replaces_every_probability(folders: Folders) -> None:
    edit_config(folders["bert"], attention_probs_dropout_prob=0.1)
    as_it_is, changed = (import_native_model(folders["bert"]).encoder.config, import_model(folders["bert"], 0.3))
    assert isinstance(as_it_is, BertConfig) and isinstance(changed.encoder.config, BertConfig)
    assert (as_it_is.attention_dropout, as_it_is.hidden_dropout) == (0.1, 0.0)
    assert (changed.encoder.config.attention_dropout, changed.encoder.config.hidden_dropout) == (0.3, 0.3)
