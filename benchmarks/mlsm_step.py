"""Measure a step of MLSM beside a step of plain MLM and beside the reference's order of work, in turn in one run.

    pip install 'maskwright[benchmarks]'
    python benchmarks/mlsm_step.py CORPUS --record benchmarks/records/<date>_mlsm_step.json

CORPUS is a prepared corpus (`maskwright prepare`). All contestants train the same student (modernbert, 6 layers, 256
wide, sequences of 128) on batches of the same size with the same mask rate. The teacher is an encoder of the same size
with its first random weights, and the dictionary is learned from its states. A cached step costs the same with any
teacher; the work of the exact solver depends on it: `--teacher RUN` takes a trained one. All of CORPUS is coded before
the first round: a million tokens are enough.

- mlm: plain MLM;
- cached, cached_mlm: MLSM with cached targets, alone and with MLM beside;
- online_exact, online_fista: MLSM whose targets are made at each step by our teacher and solver, with MLM beside;
- reference: the order of work of the published script, eager: the teacher's whole model with its logits over the
  vocabulary at every position and its loss; an eigen-decomposition of D D^T and 100 FISTA steps at the scored
  positions, by two products with D each; the student's logits over vocabulary and atoms at every position; divergence
  and cross-entropy, backward pass, clipping, update. The models are transformers' ModernBERT; the text is packed
  without padding, as ours.

The cache is built before, and not part of a step; its time and size are in the record. Each round runs every contestant
once for some steps; a first round is thrown away. Ratios are taken round by round.
"""

import argparse
import copy
import functools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from maskwright.batching.loader import Loader
from maskwright.core.hardware import environment
from maskwright.core.ranks import Ranks
from maskwright.core.records.run import RunFolder
from maskwright.corpus.corpus import Corpus, open_corpus
from maskwright.semantics.dictionary import Dictionary
from maskwright.training.phases import PhaseRun, begin_phase, enter_phase, open_phase
from maskwright.training.recipe.recipe import Recipe, parse_recipe
from maskwright.training.run import Run, assemble_run
from maskwright.training.step import Stepper

LENGTH, RATE = 128, 0.15
NUM_STEPS = 100_000
Contestant = Callable[[int], float]
"""Runs some steps and returns seconds a step."""


class Bench:
    """What all contestants share."""

    def __init__(self, corpus: Corpus, arguments: argparse.Namespace, folder: Path) -> None:
        """Learn the dictionary and build the cache."""
        self.corpus, self.arguments, self.folder = corpus, arguments, folder
        self.device, self.dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
        begin = time.perf_counter()
        self.begun([self.atoms(targets="online")])
        self.dictionary_seconds = time.perf_counter() - begin
        begin = time.perf_counter()
        self.begun([self.atoms()])
        self.cache_seconds = time.perf_counter() - begin

    def recipe(self, objective: dict[str, Any]) -> Recipe:
        """Return the recipe of a contestant."""
        tokens = self.arguments.batch * LENGTH
        shape = {"num_layers": self.arguments.layers, "hidden_size": self.arguments.width}
        shape |= {"num_heads": self.arguments.width // 64, "feed_forward_size": self.arguments.width * 3 // 2}
        phase = {"objective": objective, "sequence_length": LENGTH}
        return parse_recipe(
            {
                "name": "benchmark",
                "encoder": {"family": "modernbert", "size": None, "overrides": shape},
                "budget": {"steps": NUM_STEPS},
                "phases": [{"sequence_length": LENGTH}, phase],
                "batch": {"tokens": tokens, "micro_batch_tokens": tokens},
                "engine": {name: getattr(self.arguments, name) for name in ("device", "dtype", "compile")},
            },
            "benchmark",
        )

    def atoms(self, **options: Any) -> dict[str, Any]:
        """Return the term over atoms of a variant."""
        atoms = self.arguments.atoms
        dictionary = {"num_atoms": atoms, "num_states": 20 * atoms, "num_tokens": 20 * atoms, "num_updates": 60}
        teacher = {"teacher": str(self.arguments.teacher)} if self.arguments.teacher else {}
        return {"name": "atoms", "dictionary": dictionary, **teacher, **options}

    def begun(self, terms: list[Any] | None) -> tuple[Run, PhaseRun, Stepper]:
        """Return a run in its second phase, MLSM with some terms or plain MLM; nothing has learned yet."""
        objective = {"name": "mlm", "rate": RATE} if terms is None else {"name": "mlsm", "rate": RATE, "terms": terms}
        run = assemble_run(self.recipe(objective), self.corpus, RunFolder(self.folder), Ranks(), {})
        before = open_phase(run, 0, run.models.pop(0))
        phase = enter_phase(run, before)
        return run, phase, begin_phase(run, phase, run.course.first_step(1), before)

    @property
    def dictionary(self) -> Dictionary:
        """The atoms of all contestants."""
        return Dictionary.load(RunFolder(self.folder).phase(1) / "dictionary")


def ours(bench: Bench, terms: list[Any] | None) -> Contestant:
    """Our engine: loader, corruption, look-up or teacher, step, clipping, optimizer."""
    run_, phase, stepper = bench.begun(terms)
    batches = functools.partial(run_.batches, objective=phase.model.objective)
    first = run_.course.first_step(1)

    def run(num_steps: int) -> float:
        nonlocal first
        loader = Loader(batches, first, first + num_steps)
        begin = time.perf_counter()
        for step in range(first, first + num_steps):
            stepper.forward_backward(step, range(1), loader.take())
            phase.optimizers.clip()
            phase.optimizers.step(1e-4)
        seconds = time.perf_counter() - begin
        loader.close()
        first += num_steps
        return seconds / num_steps

    return run


def reference_targets(atoms_AD: Tensor, states_MD: Tensor, penalty: float, num_steps: int) -> Tensor:
    """Return L1-normalised codes as the published script computes them, the eigen-decomposition at every call."""
    states_MD = F.normalize(states_MD.float())
    step = 1 / torch.linalg.eigvalsh(atoms_AD.T @ atoms_AD)[-1]
    old = ahead = states_MD.new_zeros(len(states_MD), len(atoms_AD))
    momentum = 1.0
    for _ in range(num_steps):
        residual = states_MD - ahead @ atoms_AD
        new = (ahead + step * (residual @ atoms_AD.T) - step * penalty).clamp_min(0)
        next_momentum = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / next_momentum * (new - old)
        old, momentum = new, next_momentum
    return old / old.sum(1, keepdim=True).clamp_min(1e-30)


def reference(bench: Bench) -> Contestant:
    """The published order of work, on transformers' models, eager; batches are made beforehand and cost it nothing."""
    begun, phase, _ = bench.begun([bench.atoms(targets="online"), "token"])
    vocabulary, atoms_AD = bench.corpus.vocabulary, bench.dictionary.atoms_AD.to(bench.device)
    num_atoms = len(atoms_AD)
    config = transformers.ModernBertConfig(
        vocab_size=vocabulary.size,
        hidden_size=bench.arguments.width,
        num_hidden_layers=bench.arguments.layers,
        num_attention_heads=bench.arguments.width // 64,
        intermediate_size=bench.arguments.width * 3 // 2,
        max_position_embeddings=LENGTH,
        pad_token_id=vocabulary.pad_id,
        cls_token_id=vocabulary.cls_id,
        sep_token_id=vocabulary.sep_id,
        bos_token_id=vocabulary.cls_id,
        eos_token_id=vocabulary.sep_id,
    )
    teacher = transformers.ModernBertForMaskedLM(copy.deepcopy(config)).to(bench.device).eval()
    student = transformers.ModernBertForMaskedLM(config).to(bench.device).train()
    student.resize_token_embeddings(vocabulary.size + num_atoms, mean_resizing=False)
    first = begun.course.first_step(1)
    made = [begun.batches(first + step, phase.model.objective)[0] for step in range(4)]
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4)
    is_autocast = bench.dtype != torch.float32
    counter = 0

    def one_step() -> None:
        nonlocal counter
        batch = made[counter % len(made)].to(bench.device)
        counter += 1
        shape = (-1, LENGTH)
        is_used = batch.questions["token"].targets >= 0
        positions = batch.questions["token"].positions_M[is_used]
        mask_SL = torch.ones_like(batch.input.token_ids_T.view(shape))
        clean_SL = batch.clean.token_ids_T.view(shape)
        with torch.autocast(bench.device.type, bench.dtype, enabled=is_autocast):
            with torch.no_grad():
                read = teacher(clean_SL, attention_mask=mask_SL, labels=clean_SL, output_hidden_states=True)
            states_MD = read.hidden_states[-1].reshape(-1, config.hidden_size)[positions]
        with torch.no_grad():
            targets_MA = reference_targets(atoms_AD, states_MD, 0.05, 100)
        with torch.autocast(bench.device.type, bench.dtype, enabled=is_autocast):
            logits = student(batch.input.token_ids_T.view(shape), attention_mask=mask_SL).logits
            logits_MX = logits.reshape(-1, vocabulary.size + num_atoms)[positions].float()
            latent = F.kl_div(logits_MX[:, vocabulary.size :].log_softmax(1), targets_MA, reduction="batchmean")
            tokens = F.cross_entropy(logits_MX[:, : vocabulary.size], batch.questions["token"].targets[is_used])
            loss = latent + tokens
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    def run(num_steps: int) -> float:
        begin = time.perf_counter()
        for _ in range(num_steps):
            one_step()
        if bench.device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - begin) / num_steps

    return run


def contestants_of(bench: Bench) -> dict[str, Contestant]:
    """Return all contestants by name."""
    variants = {
        "mlm": None,
        "cached": [bench.atoms()],
        "cached_mlm": [bench.atoms(), "token"],
        "online_exact": [bench.atoms(targets="online"), "token"],
        "online_fista": [bench.atoms(targets="online", coding={"solver": "fista", "num_iterations": 100}), "token"],
    }
    contestants = {name: ours(bench, terms) for name, terms in variants.items()}
    return contestants | {"reference": reference(bench)}


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--teacher", type=Path, help="a trained model or run with the corpus's tokenizer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64, help="sequences")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--atoms", type=int, default=3000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--compile", default="on", choices=("on", "off"))
    parser.add_argument("--conditions", default="idle machine", help="said in the record")
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    corpus = open_corpus(arguments.corpus, verify=False)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(corpus, arguments, Path(folder))
        contestants = contestants_of(bench)
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for round_number in range(arguments.rounds + 1):
            for name, run in contestants.items():
                taken = run(arguments.steps)
                if round_number:
                    seconds[name].append(round(taken, 4))
                print(f"round {round_number} {name}: {taken:.3f} s a step", flush=True)
    ratios = {
        f"{name}_over_mlm": round(
            statistics.median(one / other for one, other in zip(taken, seconds["mlm"], strict=True)), 3
        )
        for name, taken in seconds.items()
        if name != "mlm"
    }
    record = {
        "claim": "MLSM with cached targets takes at most 1.10 times as long a step as plain MLM at the same mask rate",
        "environment": environment(),
        "conditions": arguments.conditions,
        "load_average": {"before": round(load, 1), "after": round(os.getloadavg()[0], 1)},
        "corpus": {"tokens": corpus.manifest.splits["train"].num_tokens, "vocabulary": corpus.vocabulary.size},
        "settings": {key: str(value) for key, value in vars(arguments).items() if key not in ("record", "corpus")}
        | {"length": LENGTH, "rate": RATE, "seed": 1},
        "seconds_per_step": seconds,
        "median_seconds_per_step": {name: round(statistics.median(taken), 4) for name, taken in seconds.items()},
        "ratios": ratios,
        "seconds_of_making": {"dictionary": round(bench.dictionary_seconds, 1), "cache": round(bench.cache_seconds, 1)},
    }
    print(json.dumps({key: record[key] for key in ("median_seconds_per_step", "ratios")}, indent=2))
    if arguments.record:
        arguments.record.parent.mkdir(parents=True, exist_ok=True)
        arguments.record.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
