"""The stages of `benchmarks/gpu.sh`, which says what they are for: `numerics`, `compile`, `speed`, and `gather`.

Speed is measured with the vocabulary and mask rate of recipes/base.yaml on documents that are made up: lengths as those
of web pages (log-normal, median 600 tokens), tokens by Zipf's law. Ours packs and cuts them, makes its batches as it
goes on, and reads every loss. The rival is `ModernBertForMaskedLM` in a bare loop, whose rows are full and were put
onto the GPU beforehand, with as many masks in each batch, so that it need not compile anew. Both are compiled, in
bfloat16 autocast, with a fused AdamW. In every round each makes some steps, in turn.
"""

import argparse
import contextlib
import functools
import gc
import json
import math
import re
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from contestants import SEED, BareLoop, Contestant, Engine, modernbert_config, recipe_of
from transformers.utils import is_flash_attn_2_available

from maskwright.core.batches import WORD
from maskwright.core.files import write_json_atomically
from maskwright.core.hardware import environment, matmul_flops_per_second
from maskwright.core.randomness import numpy_generator, torch_generator
from maskwright.core.ranges import expand_ranges
from maskwright.core.ranks import Ranks
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import TokenSplit
from maskwright.corpus.marks import MarkedTokens
from maskwright.encoders.attention import require_backend
from maskwright.encoders.families.modernbert import Modernbert
from maskwright.encoders.flops import flops_per_token
from maskwright.training.model import build_model
from maskwright.training.step import PhaseModel, Stepper
from maskwright.training.step_batches import StepBatches
from maskwright.training.timeline import Course

RATE, SHARE_OF_WORD_STARTS = 0.3, 0.7
NUM_SPECIAL = 5
BARS = {"H100": 0.55e6, "H200": 0.70e6}
"""Real tokens/s that the first pair should reach, by GPU."""
LEAST_RATIO = 1.5
GIGABYTES_OF_JOB = 27
"""GPU memory that compiling one contestant takes at most, a step included."""
SECONDS_OF_PAIR = 40
"""No pair is begun with less time left, nor with less than the longest one took."""
NUM_KERNELS, LOG_CHARACTERS = 25, 3000
TIME_IS_UP = (124, 137)
"""Exit statuses of `timeout`."""


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        device: where to measure.
        dimensions: of the encoders, by size.
        tokens: of a step, by size.
        pairs: size and length of what is measured, the most important first.
        numerics: dimensions, length and tokens of the encoder whose numbers are compared.
        num_documents: that are made up.
        vocabulary_size: V.
        rounds, seconds_of_round: of each pair.
    """

    device: torch.device
    dimensions: dict[str, dict[str, int]]
    tokens: dict[str, int]
    pairs: tuple[tuple[str, int], ...]
    numerics: tuple[dict[str, int], int, int]
    num_documents: int
    vocabulary_size: int
    rounds: int
    seconds_of_round: float


def full_scale() -> Scale:
    """Return what is measured on a GPU."""
    sizes, lengths = ("base", "large"), (512, 1024, 128, 8192)
    small = {"num_layers": 4, "hidden_size": 256, "num_heads": 4, "feed_forward_size": 384}
    return Scale(
        device=torch.device("cuda"),
        dimensions={size: dict(Modernbert.SIZES[size]) for size in sizes},
        tokens={"base": 32_768, "large": 16_384},
        pairs=tuple((size, length) for size in sizes for length in lengths),
        numerics=(small, 512, 8192),
        num_documents=10_000,
        vocabulary_size=32_768,
        rounds=5,
        seconds_of_round=1.0,
    )


def dry_scale() -> Scale:
    """Return what runs on any CPU in half a minute."""
    tiny = {"num_layers": 1, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 48}
    return Scale(
        device=torch.device("cpu"),
        dimensions={"base": tiny, "large": tiny | {"num_layers": 2}},
        tokens={"base": 256, "large": 256},
        pairs=(("base", 32), ("large", 64)),
        numerics=(tiny, 64, 256),
        num_documents=50,
        vocabulary_size=512,
        rounds=2,
        seconds_of_round=0.05,
    )


class MadeUpText(TokenSplit):
    """Documents in memory, behind the interface of a prepared corpus."""

    def __init__(self, num_documents: int, vocabulary_size: int) -> None:
        """Draw lengths and tokens."""
        generator = numpy_generator(SEED, "benchmark")
        lengths = np.exp(generator.normal(np.log(600), 1.0, num_documents)).astype(np.int64)
        self.num_documents, self.document_lengths = num_documents, lengths.clip(8, 20_000)
        self.first_tokens = np.concatenate([[0], np.cumsum(self.document_lengths)])
        self.marks = (WORD,)
        likelihoods = 1.0 / np.arange(10, 10 + vocabulary_size - NUM_SPECIAL)
        sums = np.cumsum(likelihoods / likelihoods.sum())
        num_tokens = int(self.first_tokens[-1])
        drawn = np.searchsorted(sums, generator.random(num_tokens)).clip(max=len(sums) - 1)
        self.tokens = (drawn + NUM_SPECIAL).astype(np.int32)
        self._begins_word = generator.random(num_tokens) < SHARE_OF_WORD_STARTS

    def gather_tokens(self, document_ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> MarkedTokens:
        """See `TokenSplit`."""
        positions = expand_ranges(self.first_tokens[document_ids] + starts, lengths)
        return MarkedTokens(self.tokens[positions].astype(np.int64), {WORD: self._begins_word[positions]})


@functools.cache
def corpus_of(num_documents: int, vocabulary_size: int) -> Any:
    """Return what the engine asks of a corpus."""
    text = MadeUpText(num_documents, vocabulary_size)
    vocabulary = Vocabulary(vocabulary_size, 0, 1, 2, 3, 4, special_ids=tuple(range(NUM_SPECIAL)), sha256="0")
    return SimpleNamespace(split=lambda name: text, vocabulary=vocabulary)


# --- numerics


def numerics(scale: Scale, part: Path, seconds: float) -> bool:
    """Compare loss and gradients of one batch with those of the CPU in float32; return whether all are near."""
    dimensions, length, tokens = scale.numerics
    corpus = corpus_of(scale.num_documents, scale.vocabulary_size)
    recipe = recipe_of("modernbert", dimensions, length, tokens, {"name": "mlm", "rate": RATE})
    batches = StepBatches(recipe, corpus, Course((10,)), Ranks())

    def found(device: torch.device, dtype: torch.dtype, attention: str, compiled: bool) -> tuple[float, torch.Tensor]:
        model = build_model(recipe, corpus.vocabulary)
        model.root().to(device)
        model.use_attention(attention)
        joined = PhaseModel(model.encoder, model.objective).train()
        stepper = Stepper(joined, device, dtype, Ranks(), SEED, compiled)
        loss = stepper.forward_backward(0, range(1), batches(0, model.objective)).read().loss
        gradients = [parameter.grad for _, parameter in model.named_parameters() if parameter.grad is not None]
        return loss, torch.cat([gradient.double().flatten().cpu() for gradient in gradients])

    true_loss, true_gradient = found(torch.device("cpu"), torch.float32, "padded", False)
    record: dict[str, Any] = {"loss_on_cpu": true_loss, "batch": {"tokens": tokens, "length": length}, "cases": []}
    for dtype, most_loss_error, most_gradient_error in ((torch.float32, 1e-4, 2e-3), (torch.bfloat16, 1e-2, 5e-2)):
        for attention in ("padded", "varlen"):
            if attention == "varlen" and (dtype == torch.float32 or scale.device.type == "cpu"):
                continue
            for compiled in (False, True):
                case = {"dtype": str(dtype), "attention": attention, "compiled": compiled}
                try:
                    require_backend(attention, scale.device, dtype)
                    loss, gradient = found(scale.device, dtype, attention, compiled)
                    error = float((gradient - true_gradient).norm() / true_gradient.norm())
                    case |= {"loss_error": abs(loss - true_loss) / true_loss, "gradient_error": error}
                    case["is_right"] = case["loss_error"] <= most_loss_error and error <= most_gradient_error
                except Exception:
                    case |= {"is_right": False, "error": traceback.format_exc()[-2000:]}
                record["cases"].append(case)
                write_json_atomically(part, record)
                print(json.dumps(case), flush=True)
    return all(case["is_right"] for case in record["cases"])


# --- speed


def ours(scale: Scale, size: str, length: int) -> Engine:
    """Return our engine."""
    corpus = corpus_of(scale.num_documents, scale.vocabulary_size)
    objective = {"name": "mlm", "rate": RATE}
    recipe = recipe_of("modernbert", scale.dimensions[size], length, scale.tokens[size], objective)
    return Engine(recipe, corpus, scale.device, torch.bfloat16)


def rival_attention(scale: Scale) -> str:
    """Return what `ModernBertForMaskedLM` attends with: its best kernel that is installed, and not one it could have.

    Without flash-attn, local layers get a dense mask, so that the ratio speaks for this set-up alone. The record says
    which it was.
    """
    is_flash = scale.device.type == "cuda" and is_flash_attn_2_available()
    return "flash_attention_2" if is_flash else "sdpa"


def rival(scale: Scale, size: str, length: int) -> BareLoop:
    """Return `ModernBertForMaskedLM` of the same size, with full rows and no mask for padding."""
    corpus, dimensions = corpus_of(scale.num_documents, scale.vocabulary_size), scale.dimensions[size]
    vocabulary = corpus.vocabulary
    config = modernbert_config(vocabulary, dimensions, length, attn_implementation=rival_attention(scale))
    generator, tokens, batches = torch_generator(SEED, "benchmark"), scale.tokens[size], []
    for number in range(4):
        ids = torch.from_numpy(corpus.split("train").tokens[number * tokens :][:tokens].astype(np.int64))
        chosen = torch.randperm(tokens, generator=generator)[: round(RATE * tokens)]
        labels = torch.full_like(ids, -100)
        labels[chosen] = ids[chosen]
        ids[chosen] = vocabulary.mask_id
        batches.append({"input_ids": ids.view(-1, length), "labels": labels.view(-1, length)})
    torch.manual_seed(SEED)
    model = transformers.ModernBertForMaskedLM(config).train()
    return BareLoop(model, batches, scale.device, torch.bfloat16)


CONTESTANTS: dict[str, Callable[[Scale, str, int], Contestant]] = {"ours": ours, "rival": rival}


def compile_ahead(scale: Scale, part: Path, seconds: float) -> bool:
    """Fill torch's cache of compiled graphs, several contestants at once, so that `speed` has less to compile."""
    jobs = [(*pair, name) for pair in scale.pairs for name in CONTESTANTS]
    slots = 1
    if scale.device.type == "cuda":
        slots = max(1, int(torch.cuda.mem_get_info()[1] / 1e9 / GIGABYTES_OF_JOB))
    else:
        jobs = jobs[:1]
    end, taken = time.monotonic() + seconds, {}

    def run(job: tuple[str, int, str]) -> None:
        size, length, name = job
        left, begin = end - time.monotonic(), time.monotonic()
        if left < SECONDS_OF_PAIR / 2:
            return
        flags = [] if scale.device.type == "cuda" else ["--dry-run"]
        command = [sys.executable, __file__, "compile-one", *flags, "--one", size, str(length), name]
        try:
            code = subprocess.run(command, timeout=left, check=False).returncode
        except subprocess.TimeoutExpired:
            code = None
        taken["-".join(map(str, job))] = {"exit": code, "seconds": round(time.monotonic() - begin, 1)}
        write_json_atomically(part, taken)

    with ThreadPoolExecutor(slots) as pool:
        list(pool.map(run, jobs))
    return True  # what was not compiled ahead is compiled later


def speed(scale: Scale, part: Path, seconds: float) -> bool:
    """Measure every pair for which there is time; return whether none failed."""
    end, longest = time.monotonic() + seconds, float(SECONDS_OF_PAIR)
    peak = matmul_flops_per_second(scale.device, torch.bfloat16, seconds=scale.seconds_of_round)
    record: dict[str, Any] = {"matmul_flops_per_second": peak, "rival_attention": rival_attention(scale), "pairs": []}
    for size, length in scale.pairs:
        about: dict[str, Any] = {"size": size, "length": length, "tokens_of_step": scale.tokens[size]}
        begin = time.monotonic()
        if begin + longest > end and scale.device.type == "cuda":
            about["not_reached"] = "no time was left"
        else:
            try:
                about |= measured(scale, size, length, peak)
            except Exception:
                about["error"] = traceback.format_exc()[-3000:]
        record["pairs"].append(about)
        if "median" in record["pairs"][0]:
            record["bars"] = bars_of(record["pairs"][0])
        write_json_atomically(part, record)
        print(json.dumps({key: value for key, value in about.items() if key != "kernels_of_ours"}), flush=True)
        longest = max(longest, time.monotonic() - begin)
        torch._dynamo.reset()  # lets go of what was compiled, and of its model
        gc.collect()
        if scale.device.type == "cuda":
            torch.cuda.empty_cache()
    return not any("error" in pair for pair in record["pairs"])


def measured(scale: Scale, size: str, length: int, peak: float) -> dict[str, Any]:
    """Return tokens/s by round, their ratio, memory and utilisation of one pair."""
    begin = time.monotonic()
    contestants = {name: make(scale, size, length) for name, make in CONTESTANTS.items()}
    steps, memory, speeds = {}, {}, {name: list[float]() for name in contestants}
    for name, run in contestants.items():
        run(3)  # compiles
        steps[name] = max(3, math.ceil(scale.seconds_of_round * run(3) / scale.tokens[size]))
    seconds_of_compiling = time.monotonic() - begin
    for _ in range(scale.rounds):
        for name, run in contestants.items():
            with peak_memory(scale.device) as taken:
                speeds[name].append(round(run(steps[name])))
            memory[name] = max(memory.get(name, 0.0), *taken)
    median = {name: round(statistics.median(values)) for name, values in speeds.items()}
    engine = contestants["ours"]
    assert isinstance(engine, Engine)
    config = engine.model.encoder.config
    # Our last block leaves out what no scored position needs; the rival computes all of it.
    flops = {
        "ours": flops_per_token(config, engine.mean_context, RATE, wanted_fraction=RATE),
        "rival": flops_per_token(config, length, RATE),
    }
    found = {
        "attention": engine.attention,
        "steps_of_round": steps,
        "tokens_per_second": speeds,
        "median": median,
        "ratio_by_round": [round(a / b, 3) for a, b in zip(speeds["ours"], speeds["rival"], strict=True)],
        "utilisation": {name: round(flops[name] * median[name] / peak, 4) for name in flops},
        "mean_context": {"ours": round(engine.mean_context, 1), "rival": length},
        "peak_gigabytes": memory,
        "largest_share_of_time_waiting_for_the_loader": round(max(engine.waited_shares[2:]), 4),
        "seconds_of_compiling": round(seconds_of_compiling, 1),
    }
    if (size, length) == scale.pairs[0]:
        try:
            found["kernels_of_ours"] = kernels(engine, scale.device)
        except Exception:  # what was measured before is worth more
            found["kernels_of_ours"] = traceback.format_exc()[-1000:]
    return found


def bars_of(pair: dict[str, Any]) -> dict[str, Any]:
    """Return what the first pair should reach, and whether it does."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    least = next((tokens for name, tokens in BARS.items() if name in gpu), None)
    ratio = statistics.median(pair["ratio_by_round"])
    return {
        "size": pair["size"],
        "length": pair["length"],
        "tokens_per_second": {"least": least, "is_reached": None if least is None else pair["median"]["ours"] >= least},
        "ratio": {"least": LEAST_RATIO, "median": ratio, "is_reached": ratio >= LEAST_RATIO},
    }


@contextlib.contextmanager
def peak_memory(device: torch.device) -> Iterator[list[float]]:
    """Give a list that holds the most gigabytes in use afterwards, the other contestant's weights included."""
    taken: list[float] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    yield taken
    taken.append(round(torch.cuda.max_memory_allocated() / 1e9, 2) if device.type == "cuda" else 0.0)


def kernels(engine: Engine, device: torch.device) -> list[dict[str, Any]]:
    """Return what three steps spend their time in, the longest first."""
    activities, key = [torch.profiler.ProfilerActivity.CPU], "self_cpu_time_total"
    if device.type == "cuda":
        activities, key = [*activities, torch.profiler.ProfilerActivity.CUDA], "self_device_time_total"
    with torch.profiler.profile(activities=activities) as profile:
        engine(3)
    kind = torch.autograd.DeviceType.CUDA if device.type == "cuda" else torch.autograd.DeviceType.CPU
    own = [event for event in profile.key_averages() if event.device_type == kind]  # and not what launched them
    events = sorted(own, key=lambda event: getattr(event, key), reverse=True)[:NUM_KERNELS]
    return [{"name": each.key[:120], "microseconds": round(getattr(each, key)), "calls": each.count} for each in events]


# --- the record


def gather(scale: Scale, parts: Path, record: Path) -> bool:
    """Put what the stages left into one record; return whether all of them ended well."""
    stages, contents = {}, {}
    for status in sorted(parts.glob("*.status"), key=lambda path: path.stat().st_mtime_ns):
        code, seconds = map(int, status.read_text().split())
        log = status.with_suffix(".log").read_text(errors="replace")
        stages[status.stem] = about = {"exit": code, "seconds": seconds}
        if code:
            about["error"] = "its time was up" if code in TIME_IS_UP else f"exit {code}"
            about["log"] = log[-LOG_CHARACTERS:]
        if (part := status.with_suffix(".json")).exists():
            contents[status.stem] = json.loads(part.read_text())
        elif status.stem == "tests":
            summary = (log.strip().splitlines() or [""])[-1]
            contents["tests"] = {"summary": summary}
            if scale.device.type == "cuda" and not re.search(r"\d+ passed", summary):
                about |= {"error": "no test passed", "log": log[-LOG_CHARACTERS:]}
    whole = {
        "claim": "base at 512 tokens: at least 0.55M real tokens/s on an H100 or 0.70M on an H200, and at least "
        f"{LEAST_RATIO} times ModernBertForMaskedLM with the attention named in `rival_attention`, in the same run",
        "command": "benchmarks/gpu.sh RECORD",
        "is_dry_run": scale.device.type == "cpu",
        "environment": environment(),
        "settings": {"rate": RATE, "vocabulary_size": scale.vocabulary_size, "rounds": scale.rounds, "seed": SEED},
        "stages": stages,
        **contents,
    }
    record.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomically(record, whole)
    return not any("error" in about for about in stages.values())


STAGES: dict[str, Callable[[Scale, Path, float], bool]] = {
    "numerics": numerics,
    "compile": compile_ahead,
    "speed": speed,
}


def main() -> None:
    """Run one stage; the exit status is 1 if something in it failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=[*STAGES, "compile-one", "gather"])
    parser.add_argument("--part", type=Path, help="where the stage writes what it found")
    parser.add_argument("--seconds", type=float, default=600, help="that the stage has")
    parser.add_argument("--parts", type=Path, help="gather: the folder of the parts")
    parser.add_argument("--record", type=Path, help="gather: what they become")
    parser.add_argument("--one", nargs=3, metavar=("SIZE", "LENGTH", "CONTESTANT"), help="compile-one: which")
    parser.add_argument("--sizes", nargs="+", help="of the encoders; default: all")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU, traced but not compiled")
    arguments = parser.parse_args()
    scale = dry_scale() if arguments.dry_run else full_scale()
    if arguments.sizes:
        scale = replace(scale, pairs=tuple(pair for pair in scale.pairs if pair[0] in arguments.sizes))
    if arguments.dry_run:
        # All but the compiler, which takes half a minute for each graph on a CPU.
        torch.compile = functools.partial(torch.compile, backend="aot_eager")
    if arguments.stage == "gather":
        is_right = gather(scale, arguments.parts, arguments.record)
    elif arguments.stage == "compile-one":
        size, length, name = arguments.one
        CONTESTANTS[name](scale, size, int(length))(2)
        is_right = True
    else:
        is_right = STAGES[arguments.stage](scale, arguments.part, arguments.seconds)
    sys.exit(0 if is_right else 1)


if __name__ == "__main__":
    main()
