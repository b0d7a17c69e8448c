"""One damaged byte anywhere in what a finished run left is found by the doctor."""

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.conftest import written
from transformers import AutoModelForMaskedLM

from maskwright.core.errors import CheckpointError
from maskwright.core.records.run import RunFolder, RunRecord
from maskwright.pipeline.check_files import RunFiles, corpus_problems
from maskwright.training.watching.watcher import StepDone

UNCHECKED = {".lock", "recipe.yaml"}
"""What is no part of a run, or is held while one goes on."""


def flip(content: bytes, chance: random.Random) -> bytes:
    position = chance.randrange(len(content))
    return content[:position] + bytes([content[position] ^ (1 << chance.randrange(8))]) + content[position + 1 :]


HARMS: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "flip": flip,
    "truncate": lambda content, chance: content[: chance.randrange(1, len(content))],
    "empty": lambda content, chance: b"",
    "append": lambda content, chance: content + b"\n",
    "delete": lambda content, chance: None,
}


def is_found(run: Path, corpus: Path) -> bool:
    try:
        files = RunFiles(RunFolder(run), RunRecord.read(run / "run.json"))
        return bool(files.problems() or not files.is_card_as_written() or corpus_problems(corpus))
    except CheckpointError:
        return True


def undetected(folder: Path, *kinds: str) -> list[str]:
    """Damage every file of a run and its corpus in every way, or those of some kinds; return what was not found."""
    run, missed = folder / "run", []
    corpus = Path(RunRecord.read(run / "run.json").corpus)
    assert corpus.is_relative_to(folder) and not is_found(run, corpus)
    files = [path for path in sorted([*run.rglob("*"), *corpus.rglob("*")]) if path.is_file()]
    assert all(any(kind in str(path) for path in files) for kind in kinds)
    for path in files:
        if path.name in UNCHECKED or path.suffix == ".lock" or "tensorboard" in path.parts:
            continue
        if kinds and not any(kind in str(path) for kind in kinds):
            continue
        content = path.read_bytes()
        for name, harm in HARMS.items():
            harmed = harm(content, random.Random(f"{name} {path.relative_to(folder)}"))
            path.unlink()
            if harmed is not None:
                path.write_bytes(harmed)
            is_made_again = name == "delete" and path.name.startswith("collocations-")
            if not is_found(run, corpus) and not is_made_again:
                missed.append(f"{name} {path.relative_to(folder)}")
            path.write_bytes(content)
    assert not is_found(run, corpus)
    return missed


@pytest.fixture
def moved(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run with its corpus."""
    shutil.copytree(finished.parent, tmp_path / "copy")
    run = tmp_path / "copy" / "run"
    record = RunRecord.read(run / "run.json")
    corpus = tmp_path / "copy" / Path(record.corpus).relative_to(finished.parent)
    record.model_copy(update={"corpus": str(corpus)}).write(run / "run.json")
    return tmp_path / "copy"


def test_every_damaged_file_is_found(moved: Path) -> None:
    assert undetected(moved) == []


@pytest.mark.slow
def test_so_is_what_objectives_and_exports_on_the_way_leave(maskwright, raw_recipe, tmp_path) -> None:
    """Dictionary, teacher, cache of targets, the decoder that reads masks, collocations, exports by words."""
    dictionary = {"num_atoms": 12, "num_states": 500, "num_tokens": 1500, "num_updates": 3}
    terms = ["token", {"name": "atoms", "weight": 0.5, "dictionary": dictionary}]
    student = {"objective": {"name": "late_mask", "rate": 0.5, "terms": terms}, "share": 2, "sequence_length": 32}
    raw = {**raw_recipe, "phases": [{"sequence_length": 32}, student], "budget": {"steps": 6}}
    recipe = written(tmp_path / "recipe.yaml", raw)
    assert maskwright("prepare", recipe, "--out", tmp_path / "corpora", "--collocations").code == 0
    said = maskwright("train", recipe, "--run", tmp_path / "run", "--set", "checkpoints.by_words=[500]")
    assert said.code == 0, said.err
    kinds = ("phases/", "targets/", "reader.safetensors", "collocations-", "babylm/")
    assert undetected(tmp_path, *kinds) == []


def test_a_run_that_ended_before_its_last_phase_is_whole(maskwright, raw_recipe, tmp_path):
    probes = {"every_steps": 1, "tokens": 256, "max_share": None, "stop_after_no_improvement": 1}
    phases = [{"sequence_length": 16}, {"sequence_length": 16, "learning_rate": 1e-9}]
    raw = {**raw_recipe, "probes": probes, "phases": phases, "optimizer": {"learning_rate": 1e-9}}
    assert maskwright("train", written(tmp_path / "recipe.yaml", raw), "--run", tmp_path / "run").code == 0
    assert not (tmp_path / "run" / "phases" / "2").exists()
    said = maskwright("doctor", tmp_path / "run")
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    ("name", "verb"),
    [
        ("run/evaluation/held_out.json", "report"),
        ("run/phases/1/masked.json", "report"),
        ("run/run.json", "export"),
        ("corpus/manifest.json", "train"),
        ("corpus/tokenizer/tokenizer_config.json", "train"),
    ],
)
def test_the_verb_that_would_use_it_refuses(maskwright, moved, name, verb):
    run, corpus = moved / "run", Path(RunRecord.read(moved / "run" / "run.json").corpus)
    path = corpus / name.removeprefix("corpus/") if name.startswith("corpus/") else moved / name
    content = path.read_bytes()
    path.write_bytes(content.replace(b"a", b"A", 1))
    assert path.read_bytes() != content
    arguments = {
        "report": ["report", run],
        "export": ["export", run],
        "train": ["train", moved / "recipe.yaml", "--corpus", corpus, "--run", moved / "other"],
    }[verb]
    said = maskwright(*arguments)
    assert said.code in (65, 66, 76), said.err
    assert str(path) in said.err and "altered" in said.err
    assert not (moved / "other" / "run.json").exists()


def test_a_model_that_was_saved_again_is_used_with_a_warning(maskwright, moved):
    run = moved / "run"
    model = AutoModelForMaskedLM.from_pretrained(run / "model")
    next(model.parameters()).data += 0.01
    model.save_pretrained(run / "model")
    for arguments in (
        ["fill", run, "the [MASK] ruled"],
        ["evaluate", run, "--tasks", "held_out"],
        ["train", moved / "recipe.yaml", "--from", run, "--run", moved / "other"],
    ):
        said = maskwright(*arguments)
        assert said.code == 0, said.err
        assert "was changed since it was exported (config.json, model.safetensors)" in said.err
    said = maskwright("doctor", run)
    assert said.code == CheckpointError.exit_code and "model.safetensors: it was altered" in said.out


def test_checksums_of_somebody_else_are_none_of_ours(maskwright, moved):
    run, sums = moved / "run", moved / "run" / "model" / "SHA256SUMS"
    sums.write_text(f"{'0' * 64} *config.json\n")
    said = maskwright("fill", run, "the [MASK] ruled")
    assert said.code == 0 and "was changed" not in said.err, said.err
    assert maskwright("doctor", run).code == CheckpointError.exit_code


def test_a_damaged_seed_or_its_items_are_done_again(maskwright, moved):
    run = moved / "run"
    for path in (run / "evaluation/items/held_out.seed-1.jsonl", run / "evaluation/seeds/held_out.seed-1.json"):
        content = path.read_bytes()
        path.write_bytes(content.replace(b"1", b"2", 1))
        said = maskwright("evaluate", run, "--tasks", "held_out")
        assert said.code == 0, said.err
        assert path.name in said.err and "it is done again" in said.err
    assert maskwright("doctor", run).code == 0


def test_damaged_metrics_are_named(maskwright, moved):
    path = moved / "run" / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"loss": ', b'"loss": 1', 1))
    assert maskwright("report", moved / "run").code == 0
    assert "metrics.jsonl was altered" in (moved / "run" / "report.html").read_text()
    assert maskwright("doctor", moved / "run").code == CheckpointError.exit_code


def test_metrics_that_were_altered_before_a_run_was_resumed_stay_named(maskwright, recipe, tmp_path, monkeypatch):
    def stop(self: object, step: StepDone) -> None:
        if step.state.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr("maskwright.training.loop.Display.after_step", stop)
        maskwright("train", recipe, "--run", run)
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"loss": ', b'"loss": 1', 1))
    said = maskwright("train", "--run", run, "--resume")
    assert said.code == 0 and "was altered since step 5 was saved" in said.err
    assert "altered: its curves may be wrong up to step 5." in (run / "report.html").read_text()
    said = maskwright("doctor", run)
    assert said.code == CheckpointError.exit_code and "metrics.jsonl: it was altered up to step 5" in said.err
