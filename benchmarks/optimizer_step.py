"""Measure what the optimizer's update costs beside forward and backward: AdamW, our Muon, and torch's.

    python benchmarks/optimizer_step.py --record benchmarks/records/<date>_optimizer_step.json

Encoders `modernbert` of several sizes with a vocabulary of 16,384, random tokens, sequences of 128, `mlm` at 30 %, in
bfloat16 where that is faster, uncompiled. In every round one step's forward and backward pass over 8,192 tokens is
timed, and then the update by each optimizer from the same gradients, in turn. Torch's Muon takes a weight as it is;
ours takes queries, keys, values, and values and gates apart. The share is that of a step over so many tokens as the
recipe of the size has, whose passes take proportionally longer.
"""

import argparse
import functools
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from maskwright.batching.pack import stack_sequences
from maskwright.core.files import write_json_atomically
from maskwright.core.hardware import environment, fastest_dtype
from maskwright.core.randomness import torch_generator
from maskwright.core.ranks import Ranks
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders import build_encoder
from maskwright.heads.vocabulary import VocabularyHead
from maskwright.objectives.mlm import Mlm
from maskwright.optim.optimizers import OptimizerConfig, Optimizers
from maskwright.optim.roles import roles_of
from maskwright.training.step import PhaseModel, Stepper

SEED, LENGTH, NUM_SEQUENCES = 1, 128, 64
VOCABULARY = Vocabulary(16_384, 0, 1, 2, 3, 4, special_ids=(0, 1, 2, 3, 4), sha256="0")
TOKENS_OF_STEP = {"mini": 8192, "small": 16_384, "base": 524_288}
"""Of the recipes of these sizes, or those that the record of optimizers was made with."""


def measured(size: str, rounds: int) -> dict[str, Any]:
    """Return seconds and shares of one size."""
    device = torch.device("cpu")
    dtype = fastest_dtype(device)
    encoder = build_encoder("modernbert", size, {}, VOCABULARY, LENGTH, SEED)
    objective = Mlm(Mlm.Config(rate=0.3), encoder, VOCABULARY, VocabularyHead(encoder.config, SEED))
    model = PhaseModel(encoder, objective).train()
    stepper = Stepper(model, device, dtype, Ranks(), SEED, compiled=False)
    generator = torch_generator(SEED, "benchmark")
    ids_SN = torch.randint(5, VOCABULARY.size, (NUM_SEQUENCES, LENGTH - 2), generator=generator)
    batch = objective.corrupt(stack_sequences(ids_SN.numpy(), VOCABULARY), generator, 0.0)
    ours = {name: Optimizers(model, OptimizerConfig(name=name), dtype) for name in ("adamw", "muon")}
    blocks = [weight for weight, role in roles_of(model).values() if role.name == "block" and weight.ndim == 2]
    torchs = torch.optim.Muon(blocks, lr=0.0)
    seconds: dict[str, list[float]] = {name: [] for name in ("passes", "adamw", "muon", "muon of torch, blocks alone")}
    for number in range(rounds + 1):
        taken = {"passes": timed(functools.partial(stepper.forward_backward, number, range(1), [batch]))}
        gradients = {parameter: parameter.grad for parameter in model.parameters()}
        for name, optimizers in ours.items():
            taken[name] = timed(functools.partial(optimizers.step, 0.0))
            for parameter, gradient in gradients.items():
                parameter.grad = gradient
        taken["muon of torch, blocks alone"] = timed(torchs.step)
        for parameter in model.parameters():
            parameter.grad = None
        if number:
            for name, each in taken.items():
                seconds[name].append(round(each, 4))
    median = {name: statistics.median(each) for name, each in seconds.items()}
    passes = median["passes"] * TOKENS_OF_STEP[size] / (NUM_SEQUENCES * LENGTH)
    shares = {name: round(median[name] / (passes + median[name]), 4) for name in ours}
    return {"seconds": seconds, "median": median, "tokens_of_step": TOKENS_OF_STEP[size], "share_of_step": shares}


def timed(function: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def main() -> None:
    """Measure, print, and write the record."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", default=["mini", "small"], choices=list(TOKENS_OF_STEP))
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    record = {"environment": environment(), "sizes": {}}
    for size in arguments.sizes:
        record["sizes"][size] = measured(size, arguments.rounds)
        print(size, json.dumps({key: record["sizes"][size][key] for key in ("median", "share_of_step")}), flush=True)
    if arguments.record:
        write_json_atomically(arguments.record, record)


if __name__ == "__main__":
    main()
