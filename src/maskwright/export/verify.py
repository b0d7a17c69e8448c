"""Compares an exported folder with the model it was made of, as a user of transformers would load it."""

import copy
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from maskwright.core.batches import EncoderInput, SequenceLayout
from maskwright.core.errors import ExportError
from maskwright.core.randomness import torch_generator
from maskwright.core.records.run import ExportRecord
from maskwright.encoders.build import empty_encoder
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.encoder import Encoder
from maskwright.encoders.families.hugging_face import HuggingFace
from maskwright.encoders.masked_architectures import own_values, quiet_transformers
from maskwright.export.families.base import Exporter, HeadNames, Reads
from maskwright.heads.token_head import TokenHead

MAX_LOGIT_DIFFERENCE = 1e-4
"""In float32; what different orders of summation leave is one to two powers of ten below."""

SAMPLE_LENGTHS = (3, 40, 200, 333)
"""Lengths of the compared sequences, as far as the model's positions go; the long ones exceed ModernBERT's window."""


def verify(encoder: Encoder, heads: Mapping[str, nn.Module], exporter: Exporter | None, folder: Path) -> ExportRecord:
    """Load `folder` with the class that belongs to each head, and compare configuration and logits.

    Args:
        encoder: what was exported.
        heads: by kind, what was exported with it; the first is the one that the record names.
        exporter: of the encoder's family; None for models of transformers.
        folder: what was written.

    Raises:
        ExportError: they differ; names the key, or the largest difference.
    """
    samples = random_sequences(encoder.config, SAMPLE_LENGTHS)
    still_encoder, still_heads = _still(encoder, heads)
    architectures, differences, num_logits = [], [], 0
    for kind, head in still_heads.items():
        names = exporter.heads[kind] if exporter else _names_of_foreign(encoder)
        theirs = _load(folder, names)
        if exporter:
            _check_keys(exporter, encoder.config, tuple(heads), theirs.config)
        else:
            _check_values(_foreign(encoder).config.keys, own_values(theirs.config))
        with torch.no_grad():
            our_logits = packed_logits(still_encoder, head, samples, names.reads)
            their_logits = _their_logits(theirs, samples, encoder.config.pad_token_id, names.reads)
        architectures.append(names.architecture)
        differences.append(_largest_difference(our_logits, their_logits, names.architecture))
        num_logits += our_logits.numel()
    return ExportRecord(
        family=encoder.exporter or "hugging_face",
        architecture=architectures[0],
        max_logit_difference=max(differences),
        num_compared_logits=num_logits,
        transformers_version=transformers.__version__,
    )


def _load(folder: Path, names: HeadNames) -> PreTrainedModel:
    """Load a folder as a user would, float32.

    Raises:
        ExportError: it loads as another class than it was written for.
    """
    with quiet_transformers():
        auto_class = getattr(transformers, names.auto_class)
        theirs = auto_class.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval()
    if type(theirs).__name__ != names.architecture:
        raise ExportError(f"{folder} loads as {type(theirs).__name__}", names.architecture)
    return theirs


def _largest_difference(ours: Tensor, theirs: Tensor, architecture: str) -> float:
    """Return the largest difference of logits.

    Raises:
        ExportError: it is too large, or there are not as many.
    """
    if ours.shape != theirs.shape:
        raise ExportError(
            f"the exported {architecture} answers with logits of the shape {list(theirs.shape)}", f"{list(ours.shape)}"
        )
    difference = float((ours - theirs).abs().max())
    if not difference <= MAX_LOGIT_DIFFERENCE:
        raise ExportError(
            f"the exported {architecture} answers differently: logits differ by up to {difference:.2g}",
            f"at most {MAX_LOGIT_DIFFERENCE:g} in float32",
            "check the weights for non-finite or huge values; nothing was written",
        )
    return difference


def _names_of_foreign(encoder: Encoder) -> HeadNames:
    """Return how a model of transformers is loaded with its vocabulary head."""
    return HeadNames(type(_foreign(encoder).whole).__name__, "AutoModelForMaskedLM", {})


def _foreign(encoder: Encoder) -> HuggingFace:
    assert isinstance(encoder, HuggingFace)
    return encoder


def _check_keys(
    exporter: Exporter, config: EncoderConfig, kinds: Sequence[str], loaded: transformers.PretrainedConfig
) -> None:
    """Compare what we wrote with what was understood; transformers takes an unknown key in silence."""
    declared = {field.name for field in dataclasses.fields(loaded)}
    for key, value in exporter.config_values(config, kinds).items():
        if key in exporter.keys_of_other_readers:
            continue
        if key not in declared:
            raise ExportError(f"config.json: {key} is not a key of {type(loaded).__name__}", "its keys only")
        understood = getattr(loaded, key)
        if understood != value and key != "dtype":
            raise ExportError(f"config.json: {key} is {value!r} but was read as {understood!r}", "the same")


def _check_values(written: Mapping[str, Any], read: Mapping[str, Any]) -> None:
    for key in sorted({*written, *read}):
        if written.get(key) != read.get(key):
            raise ExportError(
                f"config.json: {key} is {written.get(key)!r} but was read as {read.get(key)!r}", "the same"
            )


def random_sequences(config: EncoderConfig, lengths: Iterable[int]) -> list[Tensor]:
    """Return sequences of random tokens, none of them padding, as far as the positions go; int64."""
    generator = torch_generator(0, "verify export")
    tokens_V = torch.arange(config.vocabulary_size)
    tokens_V = tokens_V[tokens_V != config.pad_token_id]
    possible = sorted({min(length, config.max_positions) for length in lengths})
    return [tokens_V[torch.randint(len(tokens_V), (length,), generator=generator)] for length in possible]


def packed_logits(encoder: Encoder, head: nn.Module, sequences: Sequence[Tensor], reads: Reads = "tokens") -> Tensor:
    """Return a head's logits of sequences packed into one row.

    Args:
        encoder: gives hidden states.
        head: called with them, and with the token embedding if it predicts tokens.
        sequences: int64 [n] each.
        reads: what the head gives logits for: every token (the first dimension is T), or every sequence (S).
    """
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    num_tokens = int(starts[-1])
    sequence_index_T = torch.repeat_interleave(torch.arange(len(sequences)), lengths)
    position_ids_T = torch.arange(num_tokens) - starts[sequence_index_T]
    layout = SequenceLayout(
        sequence_starts=starts.int(),
        sequence_index_T=sequence_index_T.int(),
        position_ids_T=position_ids_T,
        segment_ids_T=torch.zeros_like(position_ids_T),
        row_length=num_tokens,
        max_length=int(lengths.max()),
    )
    positions_M = None if reads == "tokens" else starts[:-1]
    x_MD = encoder(EncoderInput(torch.cat(list(sequences)), layout), positions_M)
    return head(x_MD, encoder.embedding_weight_VE) if isinstance(head, TokenHead) else head(x_MD)


def _still(encoder: Encoder, heads: Mapping[str, nn.Module]) -> tuple[Encoder, dict[str, nn.Module]]:
    """Return copies in float32 on the CPU, with the reference attention and without dropout."""
    if isinstance(encoder, HuggingFace):
        # Together, so that what is tied stays tied.
        still_encoder, *copies = nn.ModuleList(copy.deepcopy((encoder, *heads.values()))).to("cpu", torch.float32)
        assert isinstance(still_encoder, Encoder)
    else:
        still_encoder = empty_encoder(type(encoder), encoder.config)
        weights = {name: weight.to("cpu", torch.float32) for name, weight in encoder.state_dict().items()}
        still_encoder.load_state_dict(weights, assign=True)
        still_encoder.use_attention("reference")
        copies = [copy.deepcopy(head).to("cpu", torch.float32) for head in heads.values()]
    return still_encoder.eval(), {kind: each.eval() for kind, each in zip(heads, copies, strict=True)}


def _their_logits(model: nn.Module, samples: list[Tensor], pad_token_id: int, reads: Reads) -> Tensor:
    """Return logits of the samples as a padded batch: those of tokens one after the other, padding left out."""
    token_ids_BL = torch.nn.utils.rnn.pad_sequence(samples, batch_first=True, padding_value=pad_token_id)
    lengths_B = torch.tensor([len(sample) for sample in samples])
    mask_BL = torch.arange(token_ids_BL.shape[1]) < lengths_B[:, None]
    logits = model(input_ids=token_ids_BL, attention_mask=mask_BL.long()).logits
    return logits[mask_BL] if reads == "tokens" else logits
