"""Losses, gradients and weights of small runs of every kind are, to the last bit, those that were recorded.

For changes that must not change what is trained. What is compared depends on the command line and the files of a run
alone, not on the package's modules, nor on the names of tensors and terms. Bits are promised for one environment
(docs/determinism.md), so there is a file of losses for each that they were recorded in, and elsewhere all is skipped.
After a change that is meant to change them, or on another machine at a commit that is known to be right:

    OMP_NUM_THREADS=1 python tests/golden/test_golden.py --record [NAME ...]
"""

import contextlib
import hashlib
import io
import json
import os
import platform
import random
import re
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import yaml
from safetensors.torch import load_file

HERE = Path(__file__).parent
LOSSES = HERE / "losses"
SPECIFICATION = yaml.safe_load((HERE / "runs.yaml").read_text(encoding="utf-8"))
RUNS: dict[str, Any] = SPECIFICATION["runs"]

SLOW = ("bfloat16", "compiled", "two_processes")
"""How the names of runs begin that take more than ten seconds."""

NO_TERM = re.compile(
    "step|tokens|words|seconds|phase|progress|loss|learning_rate|gradient_norm|tokens_per_second|utilisation|"
    "probe_seconds|held_out.*"
)
"""Keys of a line of metrics.jsonl that are no term of the loss."""

CLOZES = frozenset({"held_out_cross_entropy", "held_out_top1_accuracy", "held_out_top5_accuracy"})
"""Keys of what is recorded of held-out text."""

WORDS = """
the court heard appeal judge ruled against company which had paid nothing for years of work done by many people who
lived near river where boats carried grain coal timber to towns below mountains in winter when snow fell
""".split()  # noqa: SIM905 - a list of quoted words is harder to read

NO_CHARTS = patch("matplotlib.figure.Figure.savefig", lambda figure, stream, **_: stream.write("<svg ></svg>"))


def write_texts(folder: Path) -> None:
    """Write two texts of 240 documents of 5 to 59 words, the same each time: text.jsonl, and numbers.jsonl of many."""
    chance = random.Random(0)
    lengths = [5 + int(55 * chance.random()) for _ in range(240)]
    weights = [1 / (rank + 4) for rank in range(len(WORDS))]
    texts = [" ".join(chance.choices(WORDS, weights, k=length)).capitalize() + "." for length in lengths]
    numbers = [" ".join(f"{int(1e5 * chance.random()):05}" for _ in range(length)) for length in lengths]
    for name, documents in (("text", texts), ("numbers", numbers)):
        lines = "".join(json.dumps({"text": document}) + "\n" for document in documents)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def environment() -> dict[str, str]:
    """Return what bits depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else platform.processor()
    cpu = re.findall(r"(?m)^(?:model name|cpu family|model|stepping)\s*: (.*)$", text)[:4]
    return {"torch": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability(), "cpu": ", ".join(cpu)}


def recipe_of(name: str, folder: Path) -> tuple[dict[str, Any], list[str], int]:
    """Return a run's recipe, its options on the command line and its number of processes; make the runs it names."""
    changes = json.dumps(RUNS[name])
    for other in RUNS.keys() & re.findall(r"RUNS/(\w+)", changes):
        trained(other, folder)
    changes = json.loads(changes.replace("RUNS/", f"{folder}/"))
    base = json.loads(json.dumps(SPECIFICATION["base"]).replace("RUNS/", f"{folder}/"))
    raw = base | (changes if isinstance(changes, dict) else {"phases": changes or base["phases"]})
    raw["phases"] = [{"sequence_length": 32, **phase} for phase in raw["phases"]]
    options = ["--from", raw.pop("from")] if "from" in raw else []
    return raw, options, raw.pop("processes", 1)


def trained(name: str, folder: Path) -> Path:
    """Return the folder of a run, trained unless it is there; all runs in one folder share its corpora."""
    run, recipe = folder / name, folder / f"{name}.yaml"
    if not run.exists():
        raw, options, num_processes = recipe_of(name, folder)
        recipe.write_text(yaml.safe_dump(raw), encoding="utf-8")
        write_texts(folder)
        run_command(["train", str(recipe), "--run", str(run), *options], num_processes)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["status"] == "finished", record["status"]
    return run


def run_command(arguments: list[str], num_processes: int) -> None:
    """Run the command line in this process, which saves its start, or in several as torchrun would start them.

    In this process the charts of reports stay empty: they would take two thirds of the time.
    """
    if num_processes == 1:
        said, before = io.StringIO(), (sys.argv, list(sys.path), signal.getsignal(signal.SIGTERM))
        sys.argv = ["maskwright", *arguments]
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), NO_CHARTS:
                runpy.run_module("maskwright", run_name="__main__")
        except SystemExit as ended:
            assert ended.code in (0, None), said.getvalue()
        finally:
            sys.argv, sys.path[:] = before[:2]
            signal.signal(signal.SIGTERM, before[2])
        return
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(num_processes), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "maskwright", *arguments]
    pipe: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(num_processes)]
    processes = [subprocess.Popen(command, env={**os.environ, **place, **rank}, **pipe) for rank in ranks]
    try:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * num_processes, "\n".join(outputs)


def outcome(run: Path) -> dict[str, Any]:
    """Return what a run left, with numbers in hexadecimal, which keeps every bit.

    A step is its loss, the norm of its gradient, its learning rate, and the terms of the loss, ascending.
    """
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps, held_out = [], []
    for line in lines:
        terms = sorted(value for key, value in line.items() if not NO_TERM.fullmatch(key))
        steps.append(in_hex(line["step"], [line["loss"], line["gradient_norm"], line["learning_rate"], *terms]))
        probed = sorted(value for key, value in line.items() if key in CLOZES)
        held_out += [in_hex(line["step"], probed)] if probed else []
    model = load_file(max((run / "checkpoints").iterdir()) / "model.safetensors")
    tensors = sorted(fingerprint(tensor) for tensor in model.values())
    weights = hashlib.sha256("\n".join(tensors).encode()).hexdigest()
    # Of each tensor 16 digits are enough to find it; those of all are made of whole checksums.
    return {"steps": steps, "held_out": held_out, "weights": [weights], "tensors": [line[:-48] for line in tensors]}


def in_hex(step: int, numbers: list[float]) -> str:
    return " ".join([str(step), *(float(number).hex() for number in numbers)])


def fingerprint(tensor: torch.Tensor) -> str:
    """Return shape, type and SHA-256 of a tensor, whatever it is called."""
    content = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return f"{list(tensor.shape)} {tensor.dtype} {hashlib.sha256(content).hexdigest()}"


def golden_path() -> Path:
    """Return the file of this environment's losses, which need not exist."""
    here = environment()
    words = re.findall(r"\w+", " ".join([here["cpu"], here["capability"], "torch", *here["torch"].split(".")[:2]]))
    return LOSSES / f"{'_'.join(words).lower()}.json"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("golden")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name.startswith(SLOW) else name for name in RUNS]
)
def test_a_run_is_the_recorded_one_to_the_last_bit(folder: Path, name: str):
    if not golden_path().exists():
        pytest.skip(f"no losses were recorded in this environment ({', '.join(environment().values())})")
    golden = json.loads(golden_path().read_text(encoding="utf-8"))
    if golden["environment"] != environment():
        pytest.skip(f"the losses were recorded with {golden['environment']['torch']}")
    if name not in golden["runs"]:
        pytest.skip("the losses of this run were recorded elsewhere, not in this environment")
    found, recorded = outcome(trained(name, folder)), golden["runs"][name]
    if len(found["tensors"]) < len(recorded["tensors"]):
        # Checkpoints used to hold the objectives of all phases; what is left must be to the bit among what was there.
        assert len(recipe_of(name, folder)[0]["phases"]) > 1
        assert not Counter(found["tensors"]) - Counter(recorded["tensors"])
        found = {key: value for key, value in found.items() if key in ("steps", "held_out")}
    different = []
    for key in (key for key in found if found[key] != recorded[key]):
        different += [f"{key} recorded: {line}" for line in recorded[key] if line not in found[key]][:3]
        different += [f"{key} found:    {line}" for line in found[key] if line not in recorded[key]][:3]
    assert not different, "\n".join(["", *different])


def record(names: list[str]) -> None:
    """Run them and write down what came out, with the commit; all runs if none is named."""
    torch.set_num_threads(1)
    path = golden_path()
    golden = json.loads(path.read_text(encoding="utf-8")) if names else {"environment": environment(), "runs": {}}
    assert golden["environment"] == environment(), "runs that were recorded elsewhere can't stand beside these"
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as temporary:
        for name in names or RUNS:
            print(name, flush=True)
            golden["runs"][name] = {"commit": commit} | outcome(trained(name, Path(temporary)))
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    assert sys.argv[1:2] == ["--record"], __doc__
    record(sys.argv[2:])
