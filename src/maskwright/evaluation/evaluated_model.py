"""The model under evaluation, in the forms that tasks need, and the data that they score it on.

Everything is loaded on first use and kept.
"""

import copy
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from maskwright.core.hardware import default_device
from maskwright.core.log import printable, say, warn
from maskwright.core.records.run import RunRecord, run_of_model
from maskwright.corpus.corpus import Corpus
from maskwright.encoders.encoder import Encoder
from maskwright.evaluation.scorer import MaskedLanguageModel
from maskwright.export.folder import ImportedModel, import_model
from maskwright.export.hub import downloaded, hub_name_of, is_hub_name
from maskwright.export.weights import weights_sha256
from maskwright.tokenization.folder import load_tokenizer

DECODER_NOTE = "masks are filled with the decoder that it was trained with, which lies beside the exported model"


class EvaluatedModel:
    """A masked encoder under evaluation: one of ours, any Hugging Face folder, or a name on the hub.

    Attributes:
        corpus: a prepared corpus, for the tasks that score one.
        data: the folder that holds the tasks' data sets; None if the tasks find them without it.
        device: where models compute.
    """

    def __init__(
        self,
        model: str | Path,
        corpus: Corpus | None = None,
        data: Path | None = None,
        device: torch.device | None = None,
        reader_of: Callable[[Path], nn.Module | None] = lambda _: None,
    ) -> None:
        """Remember the model; nothing is read yet.

        Args:
            model: a model folder, or a name on the hub such as `roberta-base`.
            corpus, data: see the class.
            device: where to compute; the best of this machine by default.
            reader_of: returns the module that fills the masks of a model folder, if that is more than the encoder.
        """
        self._model = model
        self._reader_of = reader_of
        self._imported: dict[float | None, ImportedModel] = {}
        self.corpus = corpus
        self.data = data
        self.device = device or default_device()

    @cached_property
    def folder(self) -> Path:
        """The local model folder; a name on the hub is fetched.

        Raises:
            EvaluationError: it is on the hub, which can't be reached.
        """
        return downloaded(str(self._model)) if is_hub_name(self._model) else Path(self._model)

    @cached_property
    def name(self) -> str:
        """What to call the model in tables: its name on the hub, or that of its run or folder."""
        if is_hub_name(self._model):
            return str(self._model)
        run = run_of_model(self.folder)
        return hub_name_of(self.folder.resolve()) or (run.path.name if run else self.folder.resolve().name)

    @cached_property
    def sha256(self) -> str:
        """Checksum of the weights, see `weights_sha256`.

        Raises:
            ExportError: the folder has no safetensors.
        """
        return weights_sha256(self.folder)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The model's tokenizer, with or without a mask token.

        Raises:
            CorpusError: there is none, or it is not one of the `tokenizers` library.
        """
        return load_tokenizer(self.folder)

    @cached_property
    def limit_tokens(self) -> int:
        """The longest sequence, specials included, that the model has positions for and its tokenizer is meant for."""
        return min(self._read(None).encoder.config.max_positions, self.tokenizer.model_max_length)

    @cached_property
    def width(self) -> int:
        """The hidden size of the encoder."""
        return self._read(None).encoder.config.hidden_size

    @cached_property
    def masked_language_model(self) -> MaskedLanguageModel:
        """The model with its vocabulary head; warns if its run did not train it to fill masks.

        Raises:
            EvaluationError: the tokenizer has no mask token, or the folder no trained vocabulary head.
        """
        model = MaskedLanguageModel.of(self._read(None), self.tokenizer, self.device, self.reader)
        if self.reader is None:
            warn_if_masks_were_not_taught(self.folder)
        else:
            say(f"{printable(self.name)}: {DECODER_NOTE}")
        return model

    @cached_property
    def reader(self) -> nn.Module | None:
        """The module that fills masks, encoder included; None if the exported encoder does it without help.

        Raises:
            CheckpointError: it is damaged.
        """
        return self._reader_of(self.folder)

    def new_encoder(self, dropout: float | None = None) -> Encoder:
        """Return a copy of the pre-trained encoder, float32 on the device; training it changes no other copy.

        Args:
            dropout: replaces every dropout probability that the architecture has; None leaves them as the folder has
                them (in folders of ours, as they were in pre-training).
        """
        encoder = copy.deepcopy(self._read(dropout).encoder).to(self.device)
        encoder.choose_attention(self.device, torch.float32, encoder.config.max_positions)
        return encoder

    def _read(self, dropout: float | None) -> ImportedModel:
        """Return the folder's model; it is read once for each dropout probability."""
        if dropout not in self._imported:
            self._imported[dropout] = import_model(self.folder, dropout)
        return self._imported[dropout]


def warn_if_masks_were_not_taught(folder: Path) -> None:
    """Warn if a model is about to fill masks although the last phase of its run did not train it to.

    Raises:
        CheckpointError: the run's record is damaged.
    """
    run = run_of_model(folder)
    if run is None:
        return
    record = RunRecord.read(run.run_record)
    last = record.plan.phases[record.exported_phase]
    to_do = "judge it fine-tuned, or end its recipe with a short phase of mlm"
    if not last.trains_vocabulary_head:
        lacking = "did not train the head that predicts tokens"
    elif last.fills_masks != "encoder":
        lacking = f"never showed the encoder a mask, and {run.reader.name}, the decoder that reads them, is not there"
        to_do = f"write it from a checkpoint, maskwright export {printable(str(run.path))}, or {to_do}"
    else:
        return
    warn(
        f"{printable(str(folder))}: its last phase, {printable(last.objective)}, {lacking}. What it fills in, and "
        f"scores of masked tokens, say little: {to_do}"
    )
