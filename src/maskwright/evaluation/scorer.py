"""A masked language model as evaluation sees it: token sequences with chosen positions go in, scores come out.

Sequences are packed without padding between them and only the positions that are asked for go through the vocabulary
head, so scoring costs little more than the encoder's forward pass.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from maskwright.batching.pack import pack_sequences, stack_sequences
from maskwright.batching.row_plan import NUM_SPECIALS
from maskwright.core.batches import PackedBatch
from maskwright.core.errors import EvaluationError
from maskwright.core.hardware import can_compile, default_device
from maskwright.core.log import say
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders.encoder import Encoder
from maskwright.encoders.flops import flops_per_token
from maskwright.export.folder import ImportedModel, import_model
from maskwright.models.evaluation_mode import evaluation_mode
from maskwright.tokenization.folder import load_tokenizer
from maskwright.tokenization.special_tokens import vocabulary_of

ROW_MULTIPLE = 64
"""Rows are as long as the longest sequence of a batch needs, rounded up to this."""

CPU_TOKENS, GPU_TOKENS = 4096, 16384
"""Budget of packed tokens by device. On a processor, what stays in its caches is faster: 587 against 633 us of one
core's time for a sequence of 6 to 15 tokens (modernbert, 6 layers of 128, 8,192 tokens in the vocabulary; 2 cores of an
AMD EPYC, busy, 2026-11-21).
"""

SMALLEST_SHARE_OF_BUDGET = 8
"""A run of sequences of one length gets a batch of its own from an eighth of the token budget on."""

COMPILED_FROM_FLOPS = 3e13
"""Work from which an encoder is compiled: five minutes at 100 GFLOP/s, of which it saves more than the minute it takes
(2 cores of an AMD EPYC, 2026-11-21)."""

LOGITS_PER_CHUNK = 1 << 25
"""The head's output is made in pieces of at most this many numbers (128 MiB in float32)."""


@dataclass(frozen=True)
class Cloze:
    """A sequence and what is asked about it.

    Attributes:
        token_ids: int64 [n], the encoder's input without [CLS] and [SEP], already masked.
        positions: int64 [m], the asked positions, as indices into `token_ids`. -1 is [CLS] before the text, where a
            next-token model predicts the first token.
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
            comes first, so that a model without an opinion is not credited with the answer. Empty if they were not
            asked for.
        best_nats: float64 [M], minus the logarithm of the probability of the likeliest token; empty like `ranks`.
    """

    target_ids: np.ndarray
    nats: np.ndarray
    ranks: np.ndarray
    best_nats: np.ndarray


class MaskedLanguageModel:
    """An encoder with its vocabulary head and tokenizer."""

    def __init__(
        self,
        encoder: Encoder,
        head: nn.Module,
        tokenizer: PreTrainedTokenizerFast,
        dtype: torch.dtype = torch.float32,
        tokens_per_batch: int | None = None,
        reader: nn.Module | None = None,
    ) -> None:
        """Wrap live modules; they are neither copied nor moved.

        Args:
            encoder: gives hidden states.
            head: gives logits over the vocabulary; called as `VocabularyHead` is.
            tokenizer: the one that the encoder was trained with.
            dtype: precision of matrix products (autocast below float32); log-probabilities are float32 at least.
            tokens_per_batch: budget of packed tokens in one forward pass; None: what suits the device.
            reader: gives hidden states instead of the encoder, and is called like it (`Objective.reader`).
        """
        self.encoder = encoder
        self.reader = encoder if reader is None else reader
        self.head = head
        self.tokenizer = tokenizer
        self.vocabulary: Vocabulary = vocabulary_of(tokenizer)
        self.dtype = dtype
        self._compiled: dict[torch.dtype, Callable[..., Tensor]] = {}
        self.tokens_per_batch = tokens_per_batch or (CPU_TOKENS if self.device.type == "cpu" else GPU_TOKENS)

    @classmethod
    def from_folder(cls, folder: str | Path, device: torch.device | None = None) -> Self:
        """Load an exported model (float32) with its tokenizer.

        `EvaluatedModel.masked_language_model` also warns when the model was not trained to fill masks.

        Args:
            folder: a Hugging Face model folder.
            device: where to compute; the best of this machine by default.

        Raises:
            ExportError: the folder holds no model that can be read.
            CorpusError: its tokenizer can't be read.
            EvaluationError: it has no mask token, or the model no trained vocabulary head.
        """
        return cls.of(import_model(folder), load_tokenizer(folder), device or default_device())

    @classmethod
    def of(
        cls,
        imported: ImportedModel,
        tokenizer: PreTrainedTokenizerFast,
        device: torch.device,
        reader: nn.Module | None = None,
    ) -> Self:
        """Move an imported model, and what reads for it, to a device and choose its attention.

        Raises:
            EvaluationError: the tokenizer has no mask token, or the model no trained vocabulary head.
        """
        if tokenizer.mask_token_id is None:
            lacking = "the model's tokenizer has no mask token"
        elif not imported.has_trained_head:
            lacking = "the model's folder has no trained vocabulary head, only the encoder below it"
        else:
            encoder, head = imported.encoder.to(device), imported.head.to(device)
            encoder.choose_attention(device, torch.float32, encoder.config.max_positions)
            return cls(encoder, head, tokenizer, reader=None if reader is None else reader.to(device))
        raise EvaluationError(
            lacking,
            "a masked language model: filling masks and scoring sentences as they are (minimal pairs) need one",
            "name another model, or evaluate this one by tasks that fine-tune it, which need neither",
        )

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.encoder.embedding_weight_VE.device

    @property
    def max_tokens(self) -> int:
        """The longest sequence the model takes, without [CLS] and [SEP]."""
        return self.encoder.config.max_positions - NUM_SPECIALS

    @contextlib.contextmanager
    def compute_in_precision(self, dtype: torch.dtype) -> Iterator[None]:
        """Compute in another precision inside the block."""
        before, self.dtype = self.dtype, dtype
        try:
            yield
        finally:
            self.dtype = before

    def compile_for(self, num_tokens: int) -> None:
        """Compile the encoder in the current precision, if the given number of tokens is worth the compile time.

        `tests/unit/evaluation/test_scorer.py` compares the scores with those of the encoder as it is.
        """
        if self.encoder.is_foreign or self.dtype in self._compiled:
            return
        config = self.encoder.config
        flops = num_tokens * flops_per_token(config, config.max_positions, 0) / 3
        if flops < COMPILED_FROM_FLOPS or not can_compile(self.device):
            return
        say(f"compiling the encoder: {flops:.1e} FLOPs to come")
        self._compiled[self.dtype] = torch.compile(self.reader, dynamic=True)

    def probabilities(self, clozes: list[Cloze]) -> Tensor:
        """Return the probability of every token at all asked positions of a few sequences, float32 [M, V], on the host.

        Sequences are read in one batch.
        """
        batch, positions_M = self._pack(clozes)
        with self._hidden_states(batch, positions_M) as x_MD:
            return self.head(x_MD, self.encoder.embedding_weight_VE).float().softmax(dim=-1).cpu()

    def score(self, clozes: Iterable[Cloze], with_ranks: bool = True) -> Iterator[ClozeScores]:
        """Score sequences, batch after batch, in the order they come.

        Sequences of equal length that follow one another cost least: they share batches without any padding.

        Args:
            clozes: any number of sequences, each at most `max_tokens` long.
            with_ranks: whether ranks are wanted; counting them compares every logit with the right token's.

        Yields:
            The scores of one batch of sequences.

        Raises:
            EvaluationError: a sequence is too long or has a token that the model does not know, or the model gave a
                number that is not finite.
        """
        for group in self._groups(clozes):
            batch, positions_M = self._pack(group)
            targets = np.concatenate([cloze.target_ids for cloze in group])
            self._require_known(targets)
            with self._hidden_states(batch, positions_M) as x_MD:
                scores = self._scores(x_MD, torch.from_numpy(targets).to(x_MD.device), with_ranks)
            nats = scores.nats
            if not np.isfinite(nats).all():
                raise EvaluationError(
                    f"the model's prediction of token {targets[~np.isfinite(nats)][0]} is not a finite number",
                    "finite weights",
                    "look at the loss curve of the run; export an earlier checkpoint",
                )
            yield scores

    @contextlib.contextmanager
    def _hidden_states(self, batch: PackedBatch, positions_M: Tensor) -> Iterator[Tensor]:
        """Yield the hidden states [M, D] at some positions; inside the block the head may be used."""
        device = self.device
        narrow = torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32)
        with evaluation_mode(self.reader, self.head), narrow:
            yield self._compiled.get(self.dtype, self.reader)(batch.input.to(device), positions_M.to(device))

    def _scores(self, x_MD: Tensor, targets_M: Tensor, with_ranks: bool) -> ClozeScores:
        # A model's vocabulary may be larger than its tokenizer's, rounded up to suit the hardware.
        token_ids_V = torch.arange(self.encoder.config.vocabulary_size, device=x_MD.device)
        chunk_size = max(1, LOGITS_PER_CHUNK // len(token_ids_V))
        nats, ranks, best_nats = [], [targets_M[:0]], []
        for x_CD, targets_C in zip(x_MD.split(chunk_size), targets_M.split(chunk_size), strict=True):
            logits_CV = self.head(x_CD, self.encoder.embedding_weight_VE).float()
            target_logits_C1 = logits_CV.gather(1, targets_C[:, None])
            total_C = logits_CV.logsumexp(dim=1)
            nats.append(total_C - target_logits_C1[:, 0])
            best_nats.append(total_C - logits_CV.amax(dim=1) if with_ranks else total_C[:0])
            if with_ranks:
                is_tied_before_CV = (logits_CV == target_logits_C1) & (token_ids_V < targets_C[:, None])
                ranks.append(((logits_CV > target_logits_C1) | is_tied_before_CV).sum(dim=1))
        nats_M, best_M = (torch.cat(each).cpu().double().numpy() for each in (nats, best_nats))
        return ClozeScores(targets_M.cpu().numpy(), nats_M, torch.cat(ranks).cpu().numpy(), best_M)

    def _groups(self, clozes: Iterable[Cloze]) -> Iterator[list[Cloze]]:
        """Collect sequences until the token budget is full, or a good run of equal lengths ends."""
        group: list[Cloze] = []
        num_tokens = 0
        is_uniform = True
        for cloze in clozes:
            size = len(cloze.token_ids) + NUM_SPECIALS
            is_next = bool(group) and size == len(group[-1].token_ids) + NUM_SPECIALS
            is_good_run = is_uniform and num_tokens * SMALLEST_SHARE_OF_BUDGET >= self.tokens_per_batch
            if group and (num_tokens + size > self.tokens_per_batch or (is_good_run and not is_next)):
                yield group
                group, num_tokens, is_uniform = [], 0, True
            elif group and not is_next:
                is_uniform = False
            group.append(cloze)
            num_tokens += size
        if group:
            yield group

    def _pack(self, clozes: list[Cloze]) -> tuple[PackedBatch, Tensor]:
        """Pack sequences; return the batch and where in it the asked positions are [M], in the order of the clozes."""
        sequences = [cloze.token_ids for cloze in clozes]
        lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
        longest = int(lengths.max())
        if longest > self.max_tokens:
            raise EvaluationError(
                f"a sequence of {longest} tokens", f"at most {self.max_tokens} tokens", "shorten or split the text"
            )
        token_ids = np.concatenate(sequences)
        self._require_known(token_ids)
        if (lengths == longest).all():
            batch = stack_sequences(token_ids.reshape(len(sequences), longest), self.vocabulary)
        else:
            row_length = -(-(longest + NUM_SPECIALS) // ROW_MULTIPLE) * ROW_MULTIPLE
            row_length = min(row_length, self.encoder.config.max_positions)
            batch = pack_sequences(sequences, self.vocabulary, row_length)
        documents, starts = batch.document_ids_S.numpy(), batch.layout.sequence_starts.numpy()
        start_of_cloze = np.empty(len(clozes), dtype=np.int64)
        start_of_cloze[documents[documents >= 0]] = starts[:-1][documents >= 0]
        positions = [cloze.positions for cloze in clozes]
        first_token_M = np.repeat(start_of_cloze + 1, np.fromiter(map(len, positions), np.int64, len(positions)))
        return batch, torch.from_numpy(first_token_M + np.concatenate(positions))

    def _require_known(self, token_ids: np.ndarray) -> None:
        """Refuse tokens that the tokenizer has and the model does not.

        Raises:
            EvaluationError: there is one; names it.
        """
        size = self.encoder.config.vocabulary_size
        if len(token_ids) and (largest := int(token_ids.max())) >= size:
            raise EvaluationError(
                f"the tokenizer's token {largest} ({self.tokenizer.convert_ids_to_tokens(largest)!r})",
                f"ids below {size:,}, as many as the model has embeddings",
                "save the model with the tokenizer that it was trained with",
            )
