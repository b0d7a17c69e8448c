"""What benchmarks of training speed run against each other, on a CPU or a GPU: our engine, and bare loops of others."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from maskwright.batching.loader import Loader
from maskwright.core.batches import PackedBatch
from maskwright.core.hardware import wait_for_device
from maskwright.core.ranks import Ranks
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import Corpus
from maskwright.encoders.attention import choose_backend
from maskwright.optim.optimizers import Optimizers
from maskwright.training.model import build_model
from maskwright.training.recipe.recipe import Recipe, parse_recipe
from maskwright.training.step import PhaseModel, Stepper
from maskwright.training.step_batches import StepBatches, ready_for
from maskwright.training.timeline import Course

Contestant = Callable[[int], float]
"""Runs some steps and returns tokens/s, padding left out."""

NUM_STEPS, SEED, LEARNING_RATE = 100_000, 1, 1e-4


def recipe_of(
    family: str, dimensions: Mapping[str, int], length: int, tokens: int, objective: Mapping[str, Any]
) -> Recipe:
    """Return a recipe of one phase whose steps are one micro-batch each.

    Args:
        family: of the encoder.
        dimensions: its numbers of layers, heads and so on.
        length: of rows, in tokens.
        tokens: of a step.
        objective: as in a recipe.
    """
    recipe = {
        "name": family,
        "encoder": {"family": family, "size": None, "overrides": dict(dimensions)},
        "budget": {"steps": NUM_STEPS},
        "phases": [{"objective": dict(objective), "sequence_length": length}],
        "batch": {"tokens": tokens, "micro_batch_tokens": tokens},
    }
    return parse_recipe(recipe, "benchmark")


def modernbert_config(
    vocabulary: Vocabulary, dimensions: Mapping[str, int], length: int, **more: Any
) -> transformers.ModernBertConfig:
    """Return the rival's configuration, which scores the hidden positions alone.

    Args:
        vocabulary: of the corpus.
        dimensions: as our encoders name them.
        length: the longest sequence.
        more: options of transformers.
    """
    return transformers.ModernBertConfig(
        vocab_size=vocabulary.size,
        hidden_size=dimensions["hidden_size"],
        num_hidden_layers=dimensions["num_layers"],
        num_attention_heads=dimensions["num_heads"],
        intermediate_size=dimensions["feed_forward_size"],
        max_position_embeddings=length,
        sparse_prediction=True,
        pad_token_id=vocabulary.pad_id,
        cls_token_id=vocabulary.cls_id,
        sep_token_id=vocabulary.sep_id,
        bos_token_id=vocabulary.cls_id,
        eos_token_id=vocabulary.sep_id,
        **more,
    )


class Engine:
    """Our engine: loader, corruption, compiled step, clipping, optimizer, and the loss read as the loop reads it.

    Attributes:
        model: what is trained, on the device.
        attention: the backend.
        waited_shares: share of the time that steps waited for the loader, by call.
        mean_context: how many tokens a token could attend to at most, in the last call: sum(length²) / sum(length).
    """

    def __init__(self, recipe: Recipe, corpus: Corpus, device: torch.device, dtype: torch.dtype) -> None:
        """Build the model; compiled graphs of before are forgotten, so this comes before other contestants' steps."""
        self._device, self._next = device, 0
        self.model = build_model(recipe, corpus.vocabulary)
        self.model.root().to(device)
        self.attention = choose_backend(device, dtype, recipe.longest_sequence)
        self.model.use_attention(self.attention)
        batches = StepBatches(recipe, corpus, Course((NUM_STEPS,)), Ranks())
        self._make = ready_for(device, lambda step: batches(step, self.model.objective))
        self._optimizers = Optimizers(self.model.root(), recipe.optimizer, dtype)
        phase_model = PhaseModel(self.model.encoder, self.model.objective).train()
        self._stepper = Stepper(phase_model, device, dtype, Ranks(), SEED, compiled=True)
        self.waited_shares: list[float] = []
        self.mean_context = 0.0

    def __call__(self, num_steps: int) -> float:
        """Make some steps and return real tokens/s."""
        first, num_tokens, seen = self._next, 0, list[PackedBatch]()
        self._next += num_steps
        loader = Loader(self._make, first, self._next)
        wait_for_device(self._device)
        begin = time.perf_counter()
        for step in range(first, self._next):
            taken = loader.take()
            sums = self._stepper.forward_backward(step, range(1), taken)
            norm = self._optimizers.clip()
            sums.read(), float(norm)
            self._optimizers.step(LEARNING_RATE)
            num_tokens += taken[0].clean.num_real_tokens
            seen.append(taken[0].clean)
        wait_for_device(self._device)
        seconds = time.perf_counter() - begin
        self.waited_shares.append(loader.waited_seconds / seconds)
        loader.close()
        lengths_of = (batch.layout.sequence_starts.diff()[batch.document_ids_S >= 0] for batch in seen)
        lengths = torch.cat(list(lengths_of)).double()
        self.mean_context = float((lengths**2).sum() / lengths.sum())
        return num_tokens / seconds


class BareLoop:
    """A model of transformers, compiled, in a loop around it whose batches are made beforehand, on the device."""

    def __init__(
        self, model: nn.Module, batches: Sequence[Mapping[str, Tensor]], device: torch.device, dtype: torch.dtype
    ) -> None:
        """Move the model to the device.

        Args:
            model: gives `.loss` for a batch.
            batches: keyword arguments, without padding; used in turn.
            device: where to compute.
            dtype: of autocast.
        """
        self._device, self._dtype, self._model = device, dtype, model.to(device)
        self._batches = [{key: value.to(device) for key, value in batch.items()} for batch in batches]
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
        self._compiled = torch.compile(model)

    def __call__(self, num_steps: int) -> float:
        """Make some steps and return tokens/s."""
        num_tokens = 0
        wait_for_device(self._device)
        begin = time.perf_counter()
        for step in range(num_steps):
            batch = self._batches[step % len(self._batches)]
            with torch.autocast(self._device.type, self._dtype):
                loss = self._compiled(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
            self._optimizer.step()
            self._optimizer.zero_grad()
            num_tokens += batch["input_ids"].numel()
        wait_for_device(self._device)
        return num_tokens / (time.perf_counter() - begin)
