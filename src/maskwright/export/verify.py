"""Compares an exported folder with the model it was made of, as a user of transformers would load it."""

import dataclasses
from pathlib import Path

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForMaskedLM

from maskwright.core.batches import SequenceLayout
from maskwright.core.errors import ExportError
from maskwright.core.randomness import torch_generator
from maskwright.core.records import ExportRecord
from maskwright.encoders.build import empty_encoder
from maskwright.encoders.encoder import Encoder, EncoderConfig
from maskwright.export.families.base import Exporter
from maskwright.export.foreign import quiet_transformers
from maskwright.heads.vocabulary import VocabularyHead

MAX_LOGIT_DIFFERENCE = 1e-4
"""In float32; what different orders of summation leave is one to two powers of ten below."""

SAMPLE_LENGTHS = (3, 40, 200, 333)
"""Lengths of the compared sequences, as far as the model's positions go; the long ones exceed ModernBERT's window."""


def verify(encoder: Encoder, head: VocabularyHead, exporter: Exporter, folder: Path) -> ExportRecord:
    """Load `folder` with `AutoModelForMaskedLM` and compare configuration and logits.

    Raises:
        ExportError: they differ; names the key, or the largest difference.
    """
    with quiet_transformers():
        theirs = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval()
    if type(theirs).__name__ != exporter.architecture:
        raise ExportError(f"{folder} loads as {type(theirs).__name__}", exporter.architecture)
    _check_keys(exporter, encoder.config, theirs.config)
    samples = _samples(encoder.config)
    with torch.no_grad():
        our_logits = _our_logits(encoder, head, samples)
        their_logits = _their_logits(theirs, samples, encoder.config.pad_token_id)
    difference = float((our_logits - their_logits).abs().max())
    if not difference <= MAX_LOGIT_DIFFERENCE:
        raise ExportError(
            f"the exported {exporter.architecture} answers differently: logits differ by up to {difference:.2g}",
            f"at most {MAX_LOGIT_DIFFERENCE:g} in float32",
            "check the weights for non-finite or huge values; nothing was written",
        )
    return ExportRecord(
        family=encoder.exporter or "",
        architecture=exporter.architecture,
        max_logit_difference=difference,
        num_compared_logits=our_logits.numel(),
        transformers_version=transformers.__version__,
    )


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


def _samples(config: EncoderConfig) -> list[Tensor]:
    generator = torch_generator(0, "verify export")
    lengths = sorted({min(length, config.max_positions) for length in SAMPLE_LENGTHS})
    return [torch.randint(config.vocabulary_size, (length,), generator=generator) for length in lengths]


def _our_logits(encoder: Encoder, head: VocabularyHead, samples: list[Tensor]) -> Tensor:
    """Return logits [T, V] of the samples packed, by the reference attention in float32 on the CPU."""
    lengths = torch.tensor([len(sample) for sample in samples])
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    num_tokens = int(starts[-1])
    sequence_index_T = torch.repeat_interleave(torch.arange(len(samples)), lengths)
    position_ids_T = torch.arange(num_tokens) - starts[sequence_index_T]
    layout = SequenceLayout(starts.int(), sequence_index_T.int(), num_tokens, int(lengths.max()))

    still_encoder = empty_encoder(type(encoder), encoder.config)
    still_encoder.load_state_dict(_in_float32(encoder), assign=True)
    still_encoder.use_attention("reference")
    still_head = VocabularyHead(encoder.config)
    still_head.load_state_dict(_in_float32(head))
    x_TD = still_encoder.eval()(torch.cat(samples), position_ids_T, torch.zeros_like(position_ids_T), layout)
    return still_head(x_TD, still_encoder.embedding_weight_VD)


def _in_float32(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: weight.to("cpu", torch.float32) for name, weight in module.state_dict().items()}


def _their_logits(model: torch.nn.Module, samples: list[Tensor], pad_token_id: int) -> Tensor:
    """Return logits [T, V] of the samples as a padded batch, padding left out."""
    token_ids_BL = torch.nn.utils.rnn.pad_sequence(samples, batch_first=True, padding_value=pad_token_id)
    lengths_B = torch.tensor([len(sample) for sample in samples])
    mask_BL = torch.arange(token_ids_BL.shape[1]) < lengths_B[:, None]
    logits_BLV = model(input_ids=token_ids_BL, attention_mask=mask_BL.long()).logits
    return logits_BLV[mask_BL]
