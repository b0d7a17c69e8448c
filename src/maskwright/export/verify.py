"""Compares an exported folder with the model it was made of, as a user of transformers would load it."""

import copy
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM

from maskwright.core.batches import EncoderInput, SequenceLayout
from maskwright.core.errors import ExportError
from maskwright.core.randomness import torch_generator
from maskwright.core.records.run import ExportRecord
from maskwright.encoders.build import empty_encoder
from maskwright.encoders.encoder import Encoder, EncoderConfig
from maskwright.encoders.families.hugging_face import HuggingFace
from maskwright.encoders.masked_architectures import own_values, quiet_transformers
from maskwright.export.families.base import Exporter
from maskwright.heads.vocabulary import VocabularyHead

MAX_LOGIT_DIFFERENCE = 1e-4
"""In float32; what different orders of summation leave is one to two powers of ten below."""

SAMPLE_LENGTHS = (3, 40, 200, 333)
"""Lengths of the compared sequences, as far as the model's positions go; the long ones exceed ModernBERT's window."""


def verify(encoder: Encoder, head: nn.Module, exporter: Exporter | None, folder: Path) -> ExportRecord:
    """Load `folder` with `AutoModelForMaskedLM` and compare configuration and logits.

    Args:
        encoder: what was exported.
        head: its vocabulary head.
        exporter: of the encoder's family; None for models of transformers.
        folder: what was written.

    Raises:
        ExportError: they differ; names the key, or the largest difference.
    """
    with quiet_transformers():
        theirs = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval()
    architecture = exporter.architecture if exporter else type(_foreign(encoder).whole).__name__
    if type(theirs).__name__ != architecture:
        raise ExportError(f"{folder} loads as {type(theirs).__name__}", architecture)
    if exporter:
        _check_keys(exporter, encoder.config, theirs.config)
    else:
        _check_values(_foreign(encoder).config.keys, own_values(theirs.config))
    samples = random_sequences(encoder.config, SAMPLE_LENGTHS)
    with torch.no_grad():
        our_logits = packed_logits(*_still(encoder, head), samples)
        their_logits = _their_logits(theirs, samples, encoder.config.pad_token_id)
    difference = float((our_logits - their_logits).abs().max())
    if not difference <= MAX_LOGIT_DIFFERENCE:
        raise ExportError(
            f"the exported {architecture} answers differently: logits differ by up to {difference:.2g}",
            f"at most {MAX_LOGIT_DIFFERENCE:g} in float32",
            "check the weights for non-finite or huge values; nothing was written",
        )
    return ExportRecord(
        family=encoder.exporter or "hugging_face",
        architecture=architecture,
        max_logit_difference=difference,
        num_compared_logits=our_logits.numel(),
        transformers_version=transformers.__version__,
    )


def _foreign(encoder: Encoder) -> HuggingFace:
    assert isinstance(encoder, HuggingFace)
    return encoder


def _check_keys(exporter: Exporter, config: EncoderConfig, loaded: transformers.PretrainedConfig) -> None:
    """Compare what we wrote with what was understood; transformers takes an unknown key in silence."""
    declared = {field.name for field in dataclasses.fields(loaded)}
    for key, value in exporter.config_values(config).items():
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


def packed_logits(encoder: Encoder, head: nn.Module, sequences: Sequence[Tensor]) -> Tensor:
    """Return logits [T, V] of sequences packed into one row."""
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
    x_TD = encoder(EncoderInput(torch.cat(list(sequences)), layout))
    return head(x_TD, encoder.embedding_weight_VD)


def _still(encoder: Encoder, head: nn.Module) -> tuple[Encoder, nn.Module]:
    """Return copies in float32 on the CPU, with the reference attention and without dropout."""
    if isinstance(encoder, HuggingFace):
        # Together, so that what is tied stays tied.
        copies = nn.ModuleList(copy.deepcopy((encoder, head)))
        still_encoder, still_head = copies.to("cpu", torch.float32).eval()
        assert isinstance(still_encoder, Encoder)
        return still_encoder, still_head
    still_encoder = empty_encoder(type(encoder), encoder.config)
    still_encoder.load_state_dict(_in_float32(encoder), assign=True)
    still_encoder.use_attention("reference")
    still_head = VocabularyHead(encoder.config)
    still_head.load_state_dict(_in_float32(head))
    return still_encoder.eval(), still_head


def _in_float32(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: weight.to("cpu", torch.float32) for name, weight in module.state_dict().items()}


def _their_logits(model: torch.nn.Module, samples: list[Tensor], pad_token_id: int) -> Tensor:
    """Return logits [T, V] of the samples as a padded batch, padding left out."""
    token_ids_BL = torch.nn.utils.rnn.pad_sequence(samples, batch_first=True, padding_value=pad_token_id)
    lengths_B = torch.tensor([len(sample) for sample in samples])
    mask_BL = torch.arange(token_ids_BL.shape[1]) < lengths_B[:, None]
    logits_BLV = model(input_ids=token_ids_BL, attention_mask=mask_BL.long()).logits
    return logits_BLV[mask_BL]
