"""Reads model folders of every masked architecture of transformers, through the class of transformers itself."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

from maskwright.core.batches import SequenceLayout
from maskwright.core.errors import ExportError
from maskwright.core.log import warn
from maskwright.core.randomness import torch_generator
from maskwright.encoders.families.hugging_face import HuggingFace, HuggingFaceConfig
from maskwright.export.weights import weight_files

MAX_RELATIVE_DIFFERENCE = 1e-4
"""Largest difference of logits, as a share of the largest logit, between a model as a whole and in our two parts."""

SAMPLE_LENGTHS = (5, 17, 11)
"""Lengths of the sequences that are compared at every import."""


FOREIGN_FAILURES = (
    *(StrictDataclassError, SafetensorError, OSError, ValueError, TypeError, RuntimeError),
    *(LookupError, AttributeError, AssertionError),
)
"""What classes of transformers raise where a folder is damaged, or needs more than token ids."""


class ForeignHead(nn.Module):
    """The vocabulary head of a model of transformers, whatever it is made of, called as `VocabularyHead` is.

    The model runs with a stand-in for its body that gives hidden states back as they are, so that the model's own
    code makes logits of them. `tests/parity/test_foreign_models.py` compares them with the whole model's.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """Take the model's body out, which stays usable, and keep the rest; tied weights stay shared."""
        super().__init__()
        setattr(model, model.base_model_prefix, _StandIn(model.base_model))
        self.model = model

    def forward(self, x_MD: Tensor, embedding_VD: Tensor) -> Tensor:
        """Return logits [M, V].

        Args:
            x_MD: float [M, D], hidden states at the scored positions only.
            embedding_VD: the body's token embedding; unused, the model knows itself whether it is tied to it.
        """
        return self.model(inputs_embeds=x_MD[None]).logits[0]


class _HiddenStates(BaseModelOutput):
    """A body's answer; what some architectures add to it is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


class _StandIn(nn.Module):
    """Answers in place of a body: its output is what it was given; all else is asked of the body."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        # In a tuple, so that the body's weights are not the head's too.
        self._of = (body,)

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> BaseModelOutput:
        """Return the input as it is."""
        return _HiddenStates(last_hidden_state=inputs_embeds)  # pyright: ignore[reportArgumentType]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_of"][0], name)


@dataclass(frozen=True)
class ForeignModel:
    """A model folder, read.

    Attributes:
        encoder: the body.
        head: the rest.
        architecture: name of the class.
        has_trained_head: whether the folder has all the head's weights.
    """

    encoder: HuggingFace
    head: ForeignHead
    architecture: str
    has_trained_head: bool


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' reports and progress bars from the user, who gets messages of ours."""
    verbosity, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()


def import_foreign(folder: Path, dropout: float | None = None) -> ForeignModel:
    """Read a model folder; its weights from safetensors only, and none of its code is run.

    Args:
        folder: with `config.json` and safetensors.
        dropout: replaces every dropout probability of the configuration; None leaves them.

    Returns:
        Float32 on the CPU; without a trained head, the one it has is drawn by a fixed seed.

    Raises:
        ExportError: it is no masked encoder that transformers knows, or damaged.
    """
    weight_files(folder)
    config = _read_config(folder, dropout)
    model, report = _read_model(folder, config)
    _require_whole_body(folder, model, report)
    with _failures_explained(f"{folder}: {type(model).__name__} does not run on plain text"), quiet_transformers():
        return _in_two_parts(folder, model, report)


def _in_two_parts(folder: Path, model: PreTrainedModel, report: dict[str, Any]) -> ForeignModel:
    """Take a model apart, and see on a few random sequences that the parts make the logits of the whole."""
    samples = _samples(model)
    with torch.no_grad():
        expected_TV = torch.cat([model(input_ids=sample[None]).logits[0] for sample in samples])
    body = model.base_model
    assert isinstance(body, PreTrainedModel) and body is not model
    encoder = HuggingFace(HuggingFaceConfig.of(body), body).eval()
    foreign = ForeignModel(
        encoder,
        ForeignHead(model).eval(),
        type(model).__name__,
        has_trained_head=all(name.startswith(_prefix(model)) for name in report["missing_keys"]),
    )
    _require_same_logits(folder, foreign, samples, expected_TV)
    return foreign


def _prefix(model: PreTrainedModel) -> str:
    """Return what the names of the body's tensors begin with."""
    return f"{model.base_model_prefix}."


def _read_config(folder: Path, dropout: float | None) -> PretrainedConfig:
    """Return the configuration of a masked encoder.

    Raises:
        ExportError: it is another kind of model, or unknown.
    """
    path = folder / "config.json"
    with _failures_explained(f"{path} can't be read"), quiet_transformers():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    is_masked = type(config) in AutoModelForMaskedLM._model_mapping
    if not is_masked or config.is_encoder_decoder:
        raise ExportError(
            f"{path}: a model of the type {config.model_type!r} is no encoder with a masked language model's head",
            "a model that AutoModelForMaskedLM loads, such as BERT, RoBERTa, DeBERTa, ELECTRA or ModernBERT",
        )
    if dropout is not None:
        for key, value in config.to_dict().items():
            if "dropout" in key and isinstance(value, int | float) and not isinstance(value, bool):
                setattr(config, key, dropout)
    return config


def _read_model(folder: Path, config: PretrainedConfig) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Return the model with its head, and transformers' account of what fitted."""
    with (
        _failures_explained(f"{folder} can't be read as a {config.model_type} model"),
        quiet_transformers(),
        torch.random.fork_rng(devices=[]),
    ):
        # What the folder lacks is drawn from torch's own generator; it is left as it was.
        torch.set_rng_state(torch_generator(0, "foreign_head").get_state())
        model, report = AutoModelForMaskedLM.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    return model.eval(), report


@contextlib.contextmanager
def _failures_explained(problem: str) -> Iterator[None]:
    """Turn what transformers raises about a folder into one message.

    Raises:
        ExportError: in its place.
    """
    try:
        yield
    except ExportError:
        raise
    except FOREIGN_FAILURES as error:
        reason = " ".join(str(error).split())[:300]
        raise ExportError(
            f"{problem}: {reason}",
            "a folder that the installed transformers loads without code of the folder's own",
            "save the model again with save_pretrained, or install a newer transformers",
        ) from error


def _require_whole_body(folder: Path, model: PreTrainedModel, report: dict[str, Any]) -> None:
    """Refuse a folder whose weights and configuration describe two different bodies.

    Raises:
        ExportError: a tensor is missing, or there are layers that the configuration does not have.
    """
    prefix = _prefix(model)
    missing = sorted(name for name in report["missing_keys"] if name.startswith(prefix))
    if missing:
        raise ExportError(f"{folder}: the model's weights lack {missing[0]}", f"all tensors of {type(model).__name__}")
    kinds = {_without_numbers(name) for name in model.state_dict()}
    unexpected = sorted(report["unexpected_keys"])
    for name in unexpected:
        if re.search(r"\.\d+\.", name) and kinds & {_without_numbers(name), _without_numbers(prefix + name)}:
            raise ExportError(f"{folder}: config.json has no layer for the tensor {name}", "as many layers as weights")
    in_body = [name for name in unexpected if name.startswith(prefix) and "pooler" not in name]
    if in_body:
        warn(f"{folder}: {len(in_body)} tensors have no place in {type(model).__name__}, such as {in_body[0]}")


def _without_numbers(name: str) -> str:
    return re.sub(r"\d+", "*", name)


def _samples(model: PreTrainedModel) -> list[Tensor]:
    """Return sequences of random tokens, none of them padding."""
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    tokens_V = torch.arange(embedding.num_embeddings)
    tokens_V = tokens_V[tokens_V != (getattr(model.config, "pad_token_id", None) or 0)]
    generator = torch_generator(0, "foreign_sample")
    return [tokens_V[torch.randint(len(tokens_V), (length,), generator=generator)] for length in SAMPLE_LENGTHS]


def _require_same_logits(folder: Path, foreign: ForeignModel, samples: list[Tensor], expected_TV: Tensor) -> None:
    """Refuse a model whose body and head, taken apart, do not make the logits of the whole.

    Raises:
        ExportError: they differ.
    """
    lengths_S = torch.tensor([len(sample) for sample in samples])
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths_S.cumsum(0)]).int()
    num_tokens = int(starts[-1])
    sequence_index_T = torch.repeat_interleave(torch.arange(len(samples)), lengths_S).int()
    layout = SequenceLayout(starts, sequence_index_T, num_tokens, int(lengths_S.max()))
    zeros_T = torch.zeros(num_tokens, dtype=torch.int64)
    with torch.no_grad():
        x_TD = foreign.encoder(torch.cat(samples), zeros_T, zeros_T, layout)
        logits_TV = foreign.head(x_TD, foreign.encoder.embedding_weight_VD)
    difference = float((logits_TV - expected_TV).abs().max())
    if not difference <= MAX_RELATIVE_DIFFERENCE * max(1.0, float(expected_TV.abs().max())):
        raise ExportError(
            f"{folder}: {foreign.architecture} gives other logits in a padded batch (by up to {difference:.2g})",
            "an architecture in which padding makes no difference, and finite weights",
        )
