"""Errors, discovery, randomness, records, what is said."""

import io

import numpy as np
import pytest
import torch
from rich.console import Console

from maskwright.core import log
from maskwright.core.batches import PackedBatch
from maskwright.core.discovery import class_name_of, load_plug_in, plug_in_names
from maskwright.core.errors import CheckpointError, CorpusError, RecipeError, suggest_nearest
from maskwright.core.hardware import available_memory_bytes, environment, matmul_flops_per_second
from maskwright.core.randomness import derived_seed, numpy_generator, torch_generator
from maskwright.core.records.corpus import ShardRecord, SplitRecord
from maskwright.objectives.base import Objective


def test_a_message_says_what_we_got_expected_and_what_to_do():
    assert str(CorpusError("got")) == "got"
    assert str(CorpusError("got", "that")) == "got\nexpected: that"
    assert str(CorpusError("got", "that", "do")) == "got\nexpected: that\nto do: do"
    assert isinstance(CorpusError("got"), ValueError)


def test_the_nearest_name_is_named_if_it_is_near():
    assert suggest_nearest("learnig_rate", ["learning_rate", "seed"]) == ", did you mean 'learning_rate'?"
    assert suggest_nearest("xyz", ["learning_rate", "seed"]) == ""


def test_plug_ins_are_found_by_their_files():
    assert class_name_of("late_mask") == "LateMask"
    names = plug_in_names("maskwright.objectives")
    assert "mlm" in names
    assert not {"base", "parts"} & set(names)


@pytest.mark.parametrize("name", ["mln", "no_such_module:Thing", "maskwright.objectives.mlm:Thing", "json:JSONDecoder"])
def test_plug_ins_that_are_none(name):
    with pytest.raises(RecipeError):
        load_plug_in("maskwright.objectives", name, Objective)


def test_an_import_that_fails_inside_a_plug_in_is_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "plug_in_with_a_missing_library.py").write_text("import a_library_that_is_missing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_missing"):
        load_plug_in("maskwright.objectives", "plug_in_with_a_missing_library:Thing", Objective)


def test_randomness_is_a_function_of_seed_purpose_and_counters():
    seeds = {
        derived_seed(seed, purpose, *counters)
        for seed in range(3)
        for purpose in ("order", "corrupt")
        for counters in [(), (0,), (1,), (0, 1), (1, 0), (11,), (1, 1)]
    }
    assert len(seeds) == 3 * 2 * 7
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert torch.equal(
        torch.rand(4, generator=torch_generator(1, "a", 2)), torch.rand(4, generator=torch_generator(1, "a", 2))
    )
    assert np.array_equal(numpy_generator(1, "a").random(4), numpy_generator(1, "a").random(4))


def test_randomness_is_the_same_in_every_version():
    assert derived_seed(1, "corrupt", 2, 3) == 6156449164286596521


def shard(**changes) -> ShardRecord:
    values = {"name": "train-00000", "num_documents": 1, "num_tokens": 2, "sha256": {}, "num_bytes": {}}
    return ShardRecord(**{**values, **changes})


def test_a_record_comes_back_as_it_was_written(tmp_path):
    record = SplitRecord(shards=[shard()], num_documents=1, num_words=2, num_tokens=2, num_text_bytes=9)
    record.write(tmp_path / "record.json")
    assert SplitRecord.read(tmp_path / "record.json") == record


@pytest.mark.parametrize(
    ("content", "problem"), [("{", "JSON"), ('{"shards": []}', "num_documents"), ('{"new_key": 1}', "shards")]
)
def test_a_record_that_is_damaged_or_of_another_version_names_the_problem(tmp_path, content, problem):
    path = tmp_path / "record.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=problem) as error:
        SplitRecord.read(path)
    assert str(path) in str(error.value)
    with pytest.raises(CheckpointError, match="does not exist"):
        SplitRecord.read(tmp_path / "nothing.json")


def test_a_corpus_is_known_by_its_content(corpus):
    manifest = corpus.manifest
    later = manifest.model_copy(update={"created": "later", "seconds": 99.0, "files": ["elsewhere"]})
    assert later.content_sha256 == manifest.content_sha256
    other = manifest.model_copy(update={"tokenizer_sha256": "0" * 64})
    assert other.content_sha256 != manifest.content_sha256
    splits = {**manifest.splits, "train": manifest.splits["train"].model_copy(update={"shards": [shard()]})}
    assert manifest.model_copy(update={"splits": splits}).content_sha256 != manifest.content_sha256


def test_batches_move_with_everything_inside(batch: PackedBatch):
    moved = batch.to("meta")
    assert moved.token_ids_T.device.type == moved.layout.sequence_starts.device.type == "meta"
    assert moved.layout.max_length == batch.layout.max_length


def test_text_of_a_corpus_can_not_steer_a_terminal():
    console = Console(file=(file := io.StringIO()), force_terminal=True, width=200)
    console.print(log.printable("\x1b[2Jwiped [red]not red[/red] \x07\x08 bell"), highlight=False)
    assert "\x1b" not in file.getvalue()
    assert "\x07" not in file.getvalue()
    assert "[red]not red[/red]" in file.getvalue()


def test_only_the_first_rank_speaks(capsys, monkeypatch):
    log.say("one")
    monkeypatch.setenv("RANK", "1")
    log.say("two")
    log.warn("three")
    with log.progress("four", 3) as advance:
        advance(1)
    assert capsys.readouterr() == ("", "one\n")


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    times = iter([0.0, 5.0, 11.0, 12.0, 12.0])
    monkeypatch.setattr("maskwright.core.log.time.monotonic", lambda: next(times))
    with log.progress("reading", 1000) as advance:
        advance(100)
        advance(200)
    assert capsys.readouterr().err == "reading: 300 of 1,000\n"


def test_the_machine_is_described_and_measured():
    facts = environment()
    assert facts["torch"] == torch.__version__
    assert int(facts["memory_bytes"]) > available_memory_bytes(torch.device("cpu")) > 0
    assert matmul_flops_per_second(torch.device("cpu"), torch.float32, seconds=0.0) > 1e8
