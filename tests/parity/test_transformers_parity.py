"""Ours and transformers' models are the same function: logits, gradients, and every tensor there and back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForMaskedLM, PreTrainedTokenizerFast

from maskwright.batching.pack import pack_sequences
from maskwright.core.batches import PackedBatch
from maskwright.core.vocabulary import Vocabulary
from maskwright.export import ImportedModel, export_model, import_model

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("modernbert", {}),
    ("modernbert", {"local_attention": 10, "global_attn_every_n_layers": 2}),
    ("modernbert", {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True}),
    ("bert", {}),
    ("bert", {"layer_norm_eps": 1e-5, "type_vocab_size": 1}),
    ("electra", {"embedding_size": 16}),
    ("electra", {"embedding_size": 32, "type_vocab_size": 1}),
    ("albert", {"embedding_size": 16}),
    ("deberta", {}),
    ("deberta", {"position_biased_input": True, "type_vocab_size": 2, "max_relative_positions": 20}),
    ("deberta", {"pos_att_type": ["c2p"]}),
    ("deberta", {"pos_att_type": ["p2c"], "layer_norm_eps": 1e-5}),
    ("deberta_v2", {}),
    ("deberta_v2", {"position_buckets": 8, "max_relative_positions": 40}),
    ("deberta_v2", {"share_att_key": False, "norm_rel_ebd": "none", "position_buckets": -1}),
    ("deberta_v2", {"share_att_key": False, "pos_att_type": ["p2c"], "position_biased_input": True}),
    ("deberta_v2", {"pos_att_type": ["c2p"], "type_vocab_size": 2}),
]
LENGTHS = [5, 30, 64, 11]
VOCABULARY = Vocabulary(100, pad_id=0, cls_id=2, sep_id=3, mask_id=4, unk_id=1, special_ids=(0, 1, 2, 3, 4), sha256="0")


def same_text() -> tuple[PackedBatch, Tensor, Tensor]:
    """Return documents packed, and the same as their padded batch with its mask."""
    generator = torch.Generator().manual_seed(0)
    documents = [torch.randint(5, 100, (length,), generator=generator) for length in LENGTHS]
    framed = [torch.cat([torch.tensor([2]), document, torch.tensor([3])]) for document in documents]
    token_ids_BL = torch.nn.utils.rnn.pad_sequence(framed, batch_first=True)
    packed = pack_sequences([document.numpy() for document in documents], VOCABULARY, 80)
    return packed, token_ids_BL, token_ids_BL != 0


def in_order_of_documents(x_TV: Tensor, batch: PackedBatch) -> Tensor:
    """Return the real tokens' rows, one document after the other."""
    starts = batch.layout.sequence_starts.tolist()
    places = {
        document: slice(*starts[index : index + 2]) for index, document in enumerate(batch.document_ids_S.tolist())
    }
    return torch.cat([x_TV[places[document]] for document in range(len(LENGTHS))])


def our_logits(model: ImportedModel, batch: PackedBatch) -> Tensor:
    x_TD = model.encoder(batch.input)
    return in_order_of_documents(model.head(x_TD, model.encoder.embedding_weight_VE), batch)


@pytest.mark.parametrize("backend", ["reference", "padded"])
@pytest.mark.parametrize(("family", "options"), VARIANTS)
def test_logits_and_gradients_equal_those_of_transformers(
    their_folder: Callable[..., Path], family: str, options: dict[str, Any], backend: str
) -> None:
    folder = their_folder(family, **options)
    ours, theirs = import_model(folder), AutoModelForMaskedLM.from_pretrained(folder)
    assert ours.family == family
    ours.encoder.use_attention(backend)
    packed, token_ids_BL, is_real_BL = same_text()
    targets = (token_ids_BL[is_real_BL] + 1) % 100
    our_answer = our_logits(ours, packed)
    their_answer = theirs.train()(input_ids=token_ids_BL, attention_mask=is_real_BL.long()).logits[is_real_BL]
    torch.testing.assert_close(our_answer, their_answer, atol=1e-5, rtol=1e-5)

    F.cross_entropy(our_answer, targets).backward()
    F.cross_entropy(their_answer, targets).backward()
    embedding_gradient = theirs.get_input_embeddings().weight.grad
    torch.testing.assert_close(ours.encoder.embedding_weight_VE.grad, embedding_gradient, atol=1e-5, rtol=1e-5)
    our_norm = sum(weight.grad.square().sum() for part in (ours.encoder, ours.head) for weight in part.parameters())
    their_norm = sum(weight.grad.square().sum() for weight in theirs.parameters())
    torch.testing.assert_close(our_norm, their_norm, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("family", "options"), VARIANTS)
def test_export_after_import_keeps_every_tensor(
    their_folder: Callable[..., Path],
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    family: str,
    options: dict[str, Any],
) -> None:
    folder = their_folder(family, **options)
    imported = import_model(folder)
    export_model(imported.encoder, {"vocabulary": imported.head}, tokenizer, tmp_path / "ours")
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "ours"))
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    old, new = (AutoModelForMaskedLM.from_pretrained(path).config.to_dict() for path in (folder, tmp_path / "ours"))
    described = {"_name_or_path", "transformers_version", "architectures"}
    differing = {key for key in old if key not in described and old[key] != new.get(key)}
    assert differing <= ({"bos_token_id", "eos_token_id"} if family == "bert" else set())
