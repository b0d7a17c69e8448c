"""A masked language model as evaluation sees it: token sequences with chosen positions go in, scores come out.

Sequences are packed without padding between them and only the positions that are asked for go through the vocabulary
head, so scoring costs little more than the encoder's forward pass.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from maskwright.batching.assemble import pack_sequences
from maskwright.batching.packing import NUM_SPECIALS
from maskwright.core.batches import PackedBatch
from maskwright.core.errors import EvaluationError
from maskwright.core.hardware import default_device
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders.attention import choose_backend
from maskwright.encoders.encoder import Encoder
from maskwright.export.folder import import_model
from maskwright.heads.vocabulary import VocabularyHead
from maskwright.tokenization.folder import load_tokenizer
from maskwright.tokenization.special_tokens import vocabulary_of

ROW_MULTIPLE = 64
"""Rows are as long as the longest sequence of a batch needs, rounded up to this."""

LOGITS_PER_CHUNK = 1 << 25
"""The head's output is made in pieces of at most this many numbers (128 MiB in float32)."""


@dataclass(frozen=True)
class Cloze:
    """A sequence and what is asked about it.

    Attributes:
        token_ids: int64 [n], the encoder's input without [CLS] and [SEP], already masked.
        positions: int64 [m], the tokens that are asked for, as indices into `token_ids`.
        target_ids: int64 [m], the right tokens there.
    """

    token_ids: np.ndarray
    positions: np.ndarray
    target_ids: np.ndarray


@dataclass(frozen=True)
class ClozeScores:
    """How a model did at M asked positions.

    Attributes:
        target_ids: int64 [M], the right tokens.
        nats: float64 [M], minus the logarithm of the probability of the right token.
        ranks: int64 [M], how many tokens the model held more likely than the right one; among equals the lower id
            comes first, so that a model without an opinion is not credited with the answer.
    """

    target_ids: np.ndarray
    nats: np.ndarray
    ranks: np.ndarray


@contextlib.contextmanager
def evaluation_mode(*modules: nn.Module) -> Iterator[None]:
    """Switch modules to evaluation and gradients off; afterwards every sub-module is in the mode it was in.

    `no_grad` and not `inference_mode`: what a module caches during a probe is used by training afterwards.
    """
    was_training = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.eval()
        with torch.no_grad():
            yield
    finally:
        for part, training in was_training:
            part.training = training


class MaskedLanguageModel:
    """An encoder with its vocabulary head and tokenizer."""

    def __init__(
        self,
        encoder: Encoder,
        head: VocabularyHead,
        tokenizer: PreTrainedTokenizerFast,
        dtype: torch.dtype = torch.float32,
        tokens_per_batch: int = 16384,
    ) -> None:
        """Wrap live modules; they are used as they are and where they are.

        Args:
            encoder: gives hidden states.
            head: gives logits over the vocabulary.
            tokenizer: the one that the encoder was trained with.
            dtype: precision of matrix products (autocast below float32); log-probabilities are float32 at least.
            tokens_per_batch: budget of packed tokens in one forward pass.
        """
        self.encoder = encoder
        self.head = head
        self.tokenizer = tokenizer
        self.vocabulary: Vocabulary = vocabulary_of(tokenizer)
        self.dtype = dtype
        self.tokens_per_batch = tokens_per_batch

    @classmethod
    def from_folder(cls, folder: str | Path, device: torch.device | None = None) -> Self:
        """Load an exported model (float32) with its tokenizer.

        Args:
            folder: a Hugging Face model folder.
            device: where to compute; the best of this machine by default.

        Raises:
            ExportError: the folder holds no model that can be read.
            CorpusError: its tokenizer can't be read or has no mask token.
        """
        device = device or default_device()
        imported = import_model(folder)
        encoder, head = imported.encoder.to(device), imported.head.to(device)
        encoder.use_attention(choose_backend(device, torch.float32, encoder.config.max_positions))
        return cls(encoder, head, load_tokenizer(folder))

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.encoder.embedding_weight_VD.device

    @property
    def max_tokens(self) -> int:
        """The longest sequence the model takes, without [CLS] and [SEP]."""
        return self.encoder.config.max_positions - NUM_SPECIALS

    def logits(self, batch: PackedBatch, positions_M: Tensor) -> Tensor:
        """Return the logits [M, V] at some places of a packed batch; both are moved to the model's device."""
        with self._hidden_states(batch, positions_M) as x_MD:
            return self.head(x_MD, self.encoder.embedding_weight_VD).float()

    def probabilities(self, cloze: Cloze) -> Tensor:
        """Return the probability of every token at the asked positions of one sequence, float32 [m, V], on the host."""
        batch, positions_M = self._packed([cloze])
        return self.logits(batch, positions_M).softmax(dim=-1).cpu()

    def score(self, clozes: Iterable[Cloze]) -> Iterator[ClozeScores]:
        """Score sequences, batch after batch, in the order they come.

        Args:
            clozes: any number of sequences, each at most `max_tokens` long.

        Yields:
            The scores of one batch of sequences.

        Raises:
            EvaluationError: the model gave a number that is not finite.
        """
        for group in self._groups(clozes):
            batch, positions_M = self._packed(group)
            targets = np.concatenate([cloze.target_ids for cloze in group])
            targets_M = torch.from_numpy(targets).to(self.device)
            with self._hidden_states(batch, positions_M) as x_MD:
                nats, ranks = self._nats_and_ranks(x_MD, targets_M)
            if not np.isfinite(nats).all():
                raise EvaluationError(
                    f"the model's prediction of token {targets[~np.isfinite(nats)][0]} is not a finite number",
                    "finite weights",
                    "look at the loss curve of the run; export an earlier checkpoint",
                )
            yield ClozeScores(targets, nats, ranks)

    @contextlib.contextmanager
    def _hidden_states(self, batch: PackedBatch, positions_M: Tensor) -> Iterator[Tensor]:
        """Yield the hidden states [M, D] at some places; inside the block the head may be used."""
        device = self.device
        narrow = torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32)
        with evaluation_mode(self.encoder, self.head), narrow:
            on_device = batch.to(device)
            x_TD = self.encoder(
                on_device.token_ids_T, on_device.position_ids_T, on_device.segment_ids_T, on_device.layout
            )
            yield x_TD[positions_M.to(device)]

    def _nats_and_ranks(self, x_MD: Tensor, targets_M: Tensor) -> tuple[np.ndarray, np.ndarray]:
        # A model's vocabulary may be larger than its tokenizer's, rounded up to suit the hardware.
        token_ids_V = torch.arange(self.encoder.config.vocabulary_size, device=x_MD.device)
        chunk_size = max(1, LOGITS_PER_CHUNK // len(token_ids_V))
        nats, ranks = [], []
        for x_CD, targets_C in zip(x_MD.split(chunk_size), targets_M.split(chunk_size), strict=True):
            logits_CV = self.head(x_CD, self.encoder.embedding_weight_VD).float()
            target_logits_C1 = logits_CV.gather(1, targets_C[:, None])
            nats.append(logits_CV.logsumexp(dim=1) - target_logits_C1[:, 0])
            is_tied_before_CV = (logits_CV == target_logits_C1) & (token_ids_V < targets_C[:, None])
            ranks.append(((logits_CV > target_logits_C1) | is_tied_before_CV).sum(dim=1))
        return torch.cat(nats).cpu().double().numpy(), torch.cat(ranks).cpu().numpy()

    def _groups(self, clozes: Iterable[Cloze]) -> Iterator[list[Cloze]]:
        """Collect sequences until the token budget is full."""
        group: list[Cloze] = []
        num_tokens = 0
        for cloze in clozes:
            size = len(cloze.token_ids) + NUM_SPECIALS
            if group and num_tokens + size > self.tokens_per_batch:
                yield group
                group, num_tokens = [], 0
            group.append(cloze)
            num_tokens += size
        if group:
            yield group

    def _packed(self, clozes: list[Cloze]) -> tuple[PackedBatch, Tensor]:
        """Pack sequences; return the batch and where in it the asked positions are [M], in the order of the clozes."""
        longest = max(len(cloze.token_ids) for cloze in clozes)
        if longest > self.max_tokens:
            raise EvaluationError(
                f"a sequence of {longest} tokens", f"at most {self.max_tokens} tokens", "shorten or split the text"
            )
        row_length = -(-(longest + NUM_SPECIALS) // ROW_MULTIPLE) * ROW_MULTIPLE
        row_length = min(row_length, self.encoder.config.max_positions)
        batch = pack_sequences([cloze.token_ids for cloze in clozes], self.vocabulary, row_length)
        sequence_of_cloze = torch.empty(len(clozes), dtype=torch.int64)
        is_real = batch.document_ids_S >= 0
        sequence_of_cloze[batch.document_ids_S[is_real]] = torch.nonzero(is_real).flatten()
        first_token = batch.layout.sequence_starts[sequence_of_cloze].long() + 1
        positions = [
            first + torch.from_numpy(cloze.positions) for first, cloze in zip(first_token, clozes, strict=True)
        ]
        return batch, torch.cat(positions)
