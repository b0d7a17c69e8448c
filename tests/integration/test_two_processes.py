"""Two processes, as torchrun starts them, train what one process trains."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from tests.conftest import phase_start_of

from maskwright.core.randomness import torch_generator
from maskwright.core.ranks import Ranks
from maskwright.corpus.corpus import open_corpus
from maskwright.masking.strategies.adaptive import Adaptive
from maskwright.training.distributed import TorchrunRanks
from maskwright.training.safety.lock import exclusive


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def run_on_two(*arguments: object, cwd: Path) -> list[subprocess.CompletedProcess[str]]:
    """Run a command on two ranks; return both."""
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "maskwright", *map(str, arguments)]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **variables, "RANK": rank, "LOCAL_RANK": rank},
            stdout=pipe,
            stderr=pipe,
            text=True,
            cwd=cwd,
        )
        for rank in ("0", "1")
    ]
    try:
        outputs = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        subprocess.CompletedProcess(command, process.returncode, *output)
        for process, output in zip(processes, outputs, strict=True)
    ]


def losses(run: Path) -> list[float]:
    """Return the loss of every step, and what was measured on held-out text."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines for name in ("loss", "held_out_loss") if name in line]


@pytest.mark.slow
def test_two_processes_train_what_one_trains(maskwright, recipe, tmp_path):
    """With Muon, whose matrices the processes share out."""
    muon = ["--set", "optimizer.name=muon"]
    assert maskwright("train", recipe, "--run", tmp_path / "one" / "run", *muon).code == 0
    first, second = run_on_two("train", recipe, "--run", "two/run", *muon, cwd=tmp_path)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "Traceback" not in first.stderr + second.stderr
    assert second.stdout == ""
    assert "step 12/12" in first.stderr
    assert "step" not in second.stderr
    one, two = tmp_path / "one" / "run", tmp_path / "two" / "run"
    assert json.loads((two / "run.json").read_text())["status"] == "finished"
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    weights = [load_file(run / "checkpoints" / "step-000012" / "model.safetensors") for run in (one, two)]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-5, rtol=0)
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
    assert len(list((tmp_path / "two" / "corpora").glob("*/manifest.json"))) == 1


@pytest.mark.slow
def test_two_processes_keep_their_hours_together(recipe, tmp_path):
    """Both measure the machine, each for itself, and change the course alike; else they would wait for each other."""
    settings = ["--set", f"budget={json.dumps({'hours': 4 / 3600})}", "--set", "probes={}"]
    first, second = run_on_two("train", recipe, "--run", "two/run", *settings, cwd=tmp_path)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    record = json.loads((tmp_path / "two" / "run" / "run.json").read_text())
    assert record["plan"]["keeps_hours"] and record["result"]["step"] == record["plan"]["total_steps"]
    assert record["result"]["seconds"] == pytest.approx(4, rel=0.25)  # a few steps of two busy cores ahead


ADAPTIVE = {"name": "adaptive", "refresh_steps": 3}


@pytest.mark.slow
def test_what_adaptive_masks_learn_on_two_processes_is_what_one_learns(maskwright, recipe, tmp_path):
    objectives = [{"name": name, "strategy": ADAPTIVE} for name in ("mlm", "late_mask")]
    phases = json.dumps([{"objective": objective, "sequence_length": 32} for objective in objectives])
    settings = ["--set", f"phases={phases}", "--set", "probes={}"]
    assert maskwright("train", recipe, "--run", tmp_path / "one" / "run", *settings).code == 0
    first, second = run_on_two("train", recipe, "--run", "two/run", *settings, cwd=tmp_path)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    one, two = tmp_path / "one" / "run", tmp_path / "two" / "run"
    # Masks follow the weights from a phase's third step on: a process with other weights would hide other tokens.
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    weights = [load_file(run / "checkpoints" / "step-000012" / "model.safetensors") for run in (one, two)]
    learned = [tensor for name, tensor in weights[0].items() if name.endswith("weights_2V")]
    assert len(learned) == 1 and all(tensor.std() > 0.01 for tensor in learned)
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_phases_that_grow_and_change_the_batch_are_the_same_on_two_processes(maskwright, recipe, tmp_path):
    grown = {"encoder": {"overrides": {"num_layers": 3}}, "batch": {"tokens": 1024, "micro_batch_tokens": 256}}
    phases = json.dumps([{"sequence_length": 32}, {"sequence_length": 32, **grown}])
    settings = ["--set", f"phases={phases}"]
    assert maskwright("train", recipe, "--run", tmp_path / "one" / "run", *settings).code == 0
    first, second = run_on_two("train", recipe, "--run", "two/run", *settings, cwd=tmp_path)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    one, two = tmp_path / "one" / "run", tmp_path / "two" / "run"
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)


def observe_and_refresh(rank: int, folder: str, corpus_folder: str) -> None:
    """In each of two processes: see other predictions than the other one, and write down the weights made of all."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        save_file(
            {"weights_2V": refreshed(corpus_folder, [rank], TorchrunRanks(rank, 2))}, f"{folder}/{rank}.safetensors"
        )
    finally:
        dist.destroy_process_group()


def refreshed(corpus_folder: str, shares: list[int], ranks: Ranks) -> torch.Tensor:
    """Return the weights after one step in which some shares of the predictions were seen."""
    corpus = open_corpus(Path(corpus_folder), verify=False)
    adaptive = Adaptive(Adaptive.Config(refresh_steps=3), corpus.vocabulary)
    adaptive.begin(phase_start_of(corpus, Path(corpus_folder), 3, ranks))
    for share in shares:
        generator = torch_generator(share, "predictions")
        target_ids_M = torch.randint(10, 100, (500,), generator=generator)
        adaptive.observe(target_ids_M, torch.rand(500, generator=generator) < target_ids_M / 100)
    adaptive.after_step(1)
    return adaptive.weights_2V


def test_both_processes_hold_the_weights_that_one_makes_of_all_predictions(corpus, tmp_path):
    arguments = (str(tmp_path), str(corpus.folder))
    torch.multiprocessing.start_processes(observe_and_refresh, arguments, nprocs=2, start_method="fork")
    ours = [load_file(tmp_path / f"{rank}.safetensors")["weights_2V"] for rank in range(2)]
    alone = refreshed(str(corpus.folder), [0, 1], Ranks())
    assert torch.equal(ours[0], ours[1]) and torch.equal(ours[0], alone)
    assert not torch.equal(alone, refreshed(str(corpus.folder), [0], Ranks()))


@pytest.mark.slow
def test_what_one_process_refuses_ends_both(recipe, tmp_path):
    first, second = run_on_two("train", recipe, "--run", "run", "--set", "batch.micro_batch_tokens=512", cwd=tmp_path)
    assert (first.returncode, second.returncode) == (78, 78)
    assert "1 micro-batches for 2 processes" in first.stderr
    assert "Traceback" not in first.stderr + second.stderr


@pytest.mark.slow
def test_a_run_folder_in_use_ends_both(recipe, tmp_path):
    with exclusive(tmp_path / "run"):
        first, second = run_on_two("train", recipe, "--run", "run", cwd=tmp_path)
    assert (first.returncode, second.returncode) == (75, 75)
    assert "is in use by process" in first.stderr
    assert "Traceback" not in first.stderr + second.stderr
