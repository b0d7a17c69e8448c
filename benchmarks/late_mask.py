"""Measure the step time of late masks beside plain MLM: same encoder, tokens, rate and cores, in turn in one run.

    python benchmarks/late_mask.py --record benchmarks/records/<date>_late_mask.json

Encoders of 12 and 24 layers, 256 wide (`bert`: 4 heads, 1024 feed-forward), sequences of 128, batches of 64, a
vocabulary of 8192, random tokens, half of the text scored with 80/10/10. For each depth:

- mlm: `mlm`, whose encoder reads everything;
- late_mask: `late_mask` with its decoder of two layers;
- cross, insert: its variants, with masks that query the visible tokens, and masks that join two layers before the end.

Every contestant runs our engine: compiled forward and backward passes, clipping, AdamW; batches are made beforehand.
Each has a process of its own, which sleeps while the others run: compiled code of one changes how the next is compiled.
Tokens are what the model has seen, masked ones included. Each round runs every contestant once for some steps; a first
round is thrown away. Ratios of step times are taken round by round.
"""

import argparse
import dataclasses
import json
import multiprocessing
import statistics
import sys
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from maskwright.batching.pack import stack_sequences
from maskwright.core.hardware import environment, fastest_dtype, matmul_flops_per_second
from maskwright.core.randomness import torch_generator
from maskwright.core.ranks import Ranks
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders import build_encoder
from maskwright.heads.vocabulary import VocabularyHead
from maskwright.objectives.base import Objective
from maskwright.objectives.late_mask import LateMask
from maskwright.objectives.mlm import Mlm
from maskwright.optim.optimizers import OptimizerConfig, Optimizers
from maskwright.training.step import PhaseModel, Stepper

RATE, VOCABULARY_SIZE, SEED = 0.5, 8192, 1
VOCABULARY = Vocabulary(VOCABULARY_SIZE, 0, 1, 2, 3, 4, special_ids=(0, 1, 2, 3, 4), sha256="0")
MIX = {"rate": RATE, "mask_fraction": 0.8, "random_fraction": 0.1, "kept_fraction": 0.1}
TARGETS = {12: 0.75, 24: 0.68}
"""Largest step time of late_mask, as a share of that of mlm, by number of layers."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """What is compared."""

    family: str = "bert"
    width: int = 256
    heads: int = 4
    length: int = 128
    batch: int = 64

    @property
    def tokens(self) -> int:
        """Tokens in a batch."""
        return self.length * self.batch


def objectives(layers: int) -> dict[str, tuple[type[Objective], dict[str, Any]]]:
    """Return the objectives with their options, by name."""
    return {
        "mlm": (Mlm, MIX),
        "late_mask": (LateMask, MIX),
        "cross": (LateMask, MIX | {"decoder": "cross"}),
        "insert": (LateMask, MIX | {"insert_at": layers - 2}),
    }


class Contestant:
    """A training loop in a process of its own.

    Attributes:
        flops_per_token: by the formula that `maskwright plan` shows.
    """

    def __init__(self, shape: Shape, layers: int, plug_in: type[Objective], options: dict[str, Any]) -> None:
        """Start the process; it waits."""
        spawn = multiprocessing.get_context("spawn")
        self._connection, there = spawn.Pipe()
        spawn.Process(target=train, args=(there, shape, layers, plug_in, options), daemon=True).start()
        self.flops_per_token: float = self._connection.recv()

    def run(self, num_steps: int) -> float:
        """Run some steps and return the seconds of one."""
        self._connection.send(num_steps)
        return self._connection.recv()

    def end(self) -> None:
        """End the process."""
        self._connection.send(0)


def train(connection: Connection, shape: Shape, layers: int, plug_in: type[Objective], options: dict[str, Any]) -> None:
    """Send the FLOPs per token; then, for every number received, make so many steps and send the seconds of one."""
    warnings.simplefilter("ignore")
    sizes = {"num_layers": layers, "hidden_size": shape.width, "num_heads": shape.heads}
    sizes["feed_forward_size"] = 4 * shape.width
    encoder = build_encoder(shape.family, None, sizes, VOCABULARY, shape.length, SEED)
    objective = plug_in(plug_in.Config(**options), encoder, VOCABULARY, VocabularyHead(encoder.config, SEED))
    model = PhaseModel(encoder, objective).train()
    optimizers = Optimizers(model.root(), OptimizerConfig())
    stepper = Stepper(model, torch.device("cpu"), fastest_dtype(torch.device("cpu")), Ranks(), SEED, compiled=True)
    generator = torch_generator(SEED, "benchmark")
    ids_SN = torch.randint(5, VOCABULARY_SIZE, (4, shape.batch, shape.length - 2), generator=generator)
    batches = [objective.corrupt(stack_sequences(ids.numpy(), VOCABULARY), generator, 0.0) for ids in ids_SN]
    connection.send(objective.flops_per_token(encoder.config, shape.length))
    while num_steps := connection.recv():
        begin = time.perf_counter()
        for step in range(num_steps):
            stepper.forward_backward(step, range(1), [batches[step % len(batches)]])
            optimizers.clip()
            optimizers.step(1e-4)
        connection.send((time.perf_counter() - begin) / num_steps)


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--layers", type=int, nargs="+", default=[12, 24])
    parser.add_argument("--only", nargs="+", help="names of the objectives; mlm is always there")
    parser.add_argument("--record", type=Path)
    for field in dataclasses.fields(Shape):
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    arguments = parser.parse_args()
    shape = Shape(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Shape)})
    racers = {
        f"{name}_{layers}": Contestant(shape, layers, plug_in, options)
        for layers in arguments.layers
        for name, (plug_in, options) in objectives(layers).items()
        if not arguments.only or name in {"mlm", *arguments.only}
    }
    seconds = measured(racers, arguments.rounds, arguments.steps)
    for racer in racers.values():
        racer.end()
    record = record_of(shape, racers, seconds, arguments)
    print(json.dumps({key: record[key] for key in ("step_time_over_mlm", "flops_over_mlm")}, indent=2))
    if arguments.record:
        arguments.record.parent.mkdir(parents=True, exist_ok=True)
        arguments.record.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def measured(racers: dict[str, Contestant], rounds: int, steps: int) -> dict[str, list[float]]:
    """Return the seconds of a step, by contestant and round; the first round compiles and is thrown away."""
    seconds: dict[str, list[float]] = {name: [] for name in racers}
    for number in range(rounds + 1):
        for name, racer in racers.items():
            each = racer.run(steps)
            if number:
                seconds[name].append(round(each, 4))
            print(f"round {number} {name}: {each:.3f} s a step", flush=True)
    return seconds


def record_of(
    shape: Shape, racers: dict[str, Contestant], seconds: dict[str, list[float]], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return what is written down."""
    plain = {name: f"mlm_{name.rpartition('_')[2]}" for name in racers if not name.startswith("mlm_")}
    ratios = {
        name: [round(a / b, 4) for a, b in zip(seconds[name], seconds[mlm], strict=True)] for name, mlm in plain.items()
    }
    said = [word for word in sys.argv[1:] if word not in ("--record", str(arguments.record))]
    return {
        "claim": "a step of late_mask (rate 0.5, a decoder of 2 layers) takes at most 0.75 of the time of plain MLM at "
        "the same rate at 12 layers, at most 0.68 at 24",
        "command": " ".join(["python benchmarks/late_mask.py", *said]),
        "environment": environment(),
        "matmul_flops_per_second": matmul_flops_per_second(torch.device("cpu"), fastest_dtype(torch.device("cpu"))),
        "settings": dataclasses.asdict(shape) | {"vocabulary": VOCABULARY_SIZE, "seed": SEED} | MIX,
        "steps_per_round": arguments.steps,
        "targets": {f"late_mask_{layers}": TARGETS[layers] for layers in arguments.layers if layers in TARGETS},
        "seconds_per_step": seconds,
        "tokens_per_second": {name: round(shape.tokens / statistics.median(each)) for name, each in seconds.items()},
        "mflop_per_token": {name: round(racer.flops_per_token / 1e6, 2) for name, racer in racers.items()},
        "step_time_over_mlm_by_round": ratios,
        "step_time_over_mlm": {name: round(statistics.median(each), 3) for name, each in ratios.items()},
        "flops_over_mlm": {
            name: round(racers[name].flops_per_token / racers[mlm].flops_per_token, 3) for name, mlm in plain.items()
        },
    }


if __name__ == "__main__":
    main()
