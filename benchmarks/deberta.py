"""Measure training with disentangled attention beside transformers' classes: same tokens, sizes and cores, in turn.

    python benchmarks/deberta.py --record benchmarks/records/<date>_deberta.json

12 layers, 256 wide, 4 heads, sequences of 128, batches of 64, 15 % of the tokens scored, a vocabulary of 16,384, random
tokens, AdamW, clipping; bare loops whose batches are made beforehand. For each of the two versions:

- theirs: `DebertaForMaskedLM` or `DebertaV2ForMaskedLM` as they come: float32, eager;
- theirs_tuned: the same with bf16 autocast and torch.compile;
- ours: our family with bf16 autocast and torch.compile, as `maskwright train` runs it: the end of the last block and
  the head at the scored positions alone;
- theirs_tuned_body, ours_body: the encoders without the vocabulary head, which theirs computes at every position.

Each round runs every contestant once for some steps; a first round is thrown away. Ratios are taken round by round.
"""

import argparse
import dataclasses
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from maskwright.batching.pack import stack_sequences
from maskwright.core.batches import PackedBatch
from maskwright.core.hardware import environment
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders import build_encoder
from maskwright.heads.vocabulary import VocabularyHead

RATE, VOCABULARY_SIZE = 0.15, 16_384
VOCABULARY = Vocabulary(VOCABULARY_SIZE, 0, 1, 2, 3, 4, special_ids=(0, 1, 2, 3, 4), sha256="0")
RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
DEBERTA_V3 = {"position_buckets": 256, "share_att_key": True, "norm_rel_ebd": "layer_norm"}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
Contestant = Callable[[int], float]
"""Runs some steps and returns tokens/s."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """What is compared."""

    layers: int = 12
    width: int = 256
    heads: int = 4
    length: int = 128
    batch: int = 64

    @property
    def tokens(self) -> int:
        """Tokens in a batch."""
        return self.length * self.batch


class Theirs(nn.Module):
    """The loss of a class of transformers; with `is_body` a stand-in for one on its last hidden states."""

    def __init__(self, model: transformers.PreTrainedModel, is_body: bool) -> None:
        super().__init__()
        self.model = model.base_model if is_body else model
        self.is_body = is_body

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return a scalar."""
        if self.is_body:
            return self.model(batch["input_ids"], batch["attention_mask"])[0].float().square().mean()
        return self.model(**batch).loss


class Ours(nn.Module):
    """The same of ours."""

    def __init__(self, family: str, shape: Shape, is_body: bool) -> None:
        super().__init__()
        sizes = {"num_layers": shape.layers, "hidden_size": shape.width, "num_heads": shape.heads}
        sizes["feed_forward_size"] = 4 * shape.width
        self.encoder = build_encoder(family, None, sizes, VOCABULARY, shape.length, seed=1)
        self.head = None if is_body else VocabularyHead(self.encoder.config, seed=1)

    def forward(self, batch: PackedBatch, positions_M: Tensor, targets_M: Tensor) -> Tensor:
        """Return a scalar."""
        if self.head is None:
            return self.encoder(batch.input).float().square().mean()
        x_MD = self.encoder(batch.input, positions_M)
        return F.cross_entropy(self.head(x_MD, self.encoder.embedding_weight_VE), targets_M)


def their_model(family: str, shape: Shape) -> transformers.PreTrainedModel:
    """Return a class of transformers with the size of the comparison."""
    values = {
        "vocab_size": VOCABULARY_SIZE,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": 4 * shape.width,
        "max_position_embeddings": shape.length,
        "pad_token_id": VOCABULARY.pad_id,
        **RELATIVE,
        **NO_DROPOUT,
    }
    if family == "deberta":
        return transformers.DebertaForMaskedLM(transformers.DebertaConfig(**values))
    return transformers.DebertaV2ForMaskedLM(transformers.DebertaV2Config(**values, **DEBERTA_V3))


def batches(shape: Shape) -> tuple[dict[str, Tensor], tuple[PackedBatch, Tensor, Tensor]]:
    """Return one batch as theirs takes it and as ours does, the same tokens and scored positions."""
    generator = torch.Generator().manual_seed(0)
    token_ids_SN = torch.randint(5, VOCABULARY_SIZE, (shape.batch, shape.length - 2), generator=generator)
    packed = stack_sequences(token_ids_SN.numpy(), VOCABULARY)
    positions_M = torch.randperm(shape.tokens, generator=generator)[: int(RATE * shape.tokens)].sort().values
    labels_T = torch.full((shape.tokens,), -100)
    labels_T[positions_M] = packed.token_ids_T[positions_M]
    input_ids = packed.token_ids_T.view(shape.batch, shape.length)
    theirs = {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids),
        "labels": labels_T.view_as(input_ids),
    }
    return theirs, (packed, positions_M, packed.token_ids_T[positions_M])


def contestant(model: nn.Module, batch: tuple, num_tokens: int, is_tuned: bool) -> Contestant:
    """Return a training loop."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    compute = torch.compile(model, dynamic=False) if is_tuned else model

    def run(num_steps: int) -> float:
        begin = time.perf_counter()
        for _ in range(num_steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=is_tuned):
                loss = compute(*batch)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return num_steps * num_tokens / (time.perf_counter() - begin)

    return run


def contestants(shape: Shape) -> dict[str, Contestant]:
    """Return all of them by name."""
    theirs, ours = batches(shape)
    made: dict[str, Contestant] = {}
    for family in ("deberta", "deberta_v2"):
        for name, is_tuned, is_body in (("", False, False), ("_tuned", True, False), ("_tuned_body", True, True)):
            model = Theirs(their_model(family, shape), is_body)
            made[f"{family}_theirs{name}"] = contestant(model, (theirs,), shape.tokens, is_tuned)
        for name, is_body in (("", False), ("_body", True)):
            made[f"{family}_ours{name}"] = contestant(Ours(family, shape, is_body), ours, shape.tokens, True)
    return made


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--layers", type=int, default=Shape.layers)
    parser.add_argument("--batch", type=int, default=Shape.batch)
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    shape = Shape(layers=arguments.layers, batch=arguments.batch)
    racers = contestants(shape)
    speeds: dict[str, list[float]] = {name: [] for name in racers}
    for round_number in range(arguments.rounds + 1):
        for name, run in racers.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                speed = run(arguments.steps)
            if round_number:
                speeds[name].append(round(speed, 1))
            print(f"round {round_number} {name}: {speed:,.0f} tokens/s", flush=True)
    pairs = {
        f"{family}_{one}_over_{other}": (f"{family}_{one}", f"{family}_{other}")
        for family in ("deberta", "deberta_v2")
        for one, other in (("ours", "theirs"), ("ours", "theirs_tuned"), ("ours_body", "theirs_tuned_body"))
    }
    record = {
        "claim": "at least 1.5 x the training tokens/s of DebertaForMaskedLM and DebertaV2ForMaskedLM",
        "environment": environment(),
        "settings": dataclasses.asdict(shape) | {"rate": RATE, "vocabulary": VOCABULARY_SIZE, "dropout": 0.0},
        "steps_per_round": arguments.steps,
        "tokens_per_second": speeds,
        "median_tokens_per_second": {name: round(statistics.median(values)) for name, values in speeds.items()},
        "ratios": {
            key: round(statistics.median(a / b for a, b in zip(speeds[one], speeds[other], strict=True)), 3)
            for key, (one, other) in pairs.items()
        },
    }
    print(json.dumps({key: record[key] for key in ("median_tokens_per_second", "ratios")}, indent=2))
    if arguments.record:
        arguments.record.parent.mkdir(parents=True, exist_ok=True)
        arguments.record.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
