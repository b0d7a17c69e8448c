"""What a user gets wrong ends with one short message and the right exit code; nothing is lost or half written."""

import gzip
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import raw_record

from maskwright.cli.main import main
from maskwright.core.errors import CorpusError
from maskwright.training.checkpoint import Checkpoints, damage
from maskwright.training.safety.lock import exclusive

USAGE, CORPUS, CHECKPOINT, EVALUATION, MEMORY, STORAGE, BUSY, EXPORT, RECIPE = 2, 65, 66, 67, 71, 74, 75, 76, 78

GOOD = b"The court heard the appeal of the company.\n" * 40


def assert_clear(said: Any, code: int, *parts: str) -> None:
    """Check that a command ended with one short message that holds all `parts`."""
    assert said.code == code, said.err
    message = said.err[said.err.index("error: ") :]
    assert len(message.strip().splitlines()) <= 6
    assert "Traceback" not in said.err
    for part in parts:
        assert part in message


def is_untouched(out: Path) -> bool:
    """Whether a folder for corpora holds nothing but locks."""
    return not out.exists() or all(path.name.endswith(".lock") for path in out.iterdir())


BAD_TEXTS = {
    "empty.txt": (b"", "no text", "1 empty"),
    "blank.txt": (b"\n \n\t\n", "no text", "1 empty"),
    "binary.txt": (bytes(range(256)) * 40, "binary", "byte 0 is zero"),
    "latin.txt": (bytes([233, 244, 10]) * 2000, "are not UTF-8", "iconv"),
    "utf16.txt": (("The court.\n" * 30).encode("utf-16"), "UTF-16", "iconv"),
    "cut.txt.gz": (gzip.compress(GOOD * 50)[:-40], "cut.txt.gz", "a whole .gz file"),
    "broken.jsonl": (b'{"text": "a"}\n{"text": \n', "broken.jsonl:2", "not JSON"),
    "field.jsonl": (b'{"txet": "a"}\n', "field.jsonl:1", "'txet'"),
    "notes.pdf": (b"%PDF", "its kind of file is not known", ".jsonl"),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_text_that_can_not_be_used(maskwright, recipe, tmp_path, name):
    content, *parts = BAD_TEXTS[name]
    (tmp_path / name).write_bytes(content)
    out = tmp_path / "corpora"
    assert_clear(maskwright("prepare", recipe, "--data", tmp_path / name, "--out", out), CORPUS, name, *parts)
    assert is_untouched(out)


def test_places_without_text(maskwright, recipe, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "novel.txt").write_bytes(GOOD)
    for data, *parts in [
        (tmp_path / "empty", "holds no file to read"),
        (tmp_path / "nothing", "does not exist"),
        (tmp_path / "texts" / "nofel.txt", "did you mean 'novel.txt'"),
        (tmp_path / "texts" / "*.md", "does not exist"),
        ("", "is empty"),
        ("hf:wikitext", "hf:dataset/config/split"),
    ]:
        assert_clear(maskwright("prepare", recipe, "--data", data, "--out", tmp_path / "out"), CORPUS, *parts)
    assert is_untouched(tmp_path / "out")


def test_invalid_utf_8_is_replaced_and_counted_or_refused_by_its_place(maskwright, recipe, tmp_path):
    text = tmp_path / "text.txt"
    text.write_bytes(GOOD + b"bro\xffken\n" + GOOD)
    said = maskwright("prepare", recipe, "--data", text, "--out", tmp_path / "out")
    assert said.code == 0
    assert "1 pieces of invalid UTF-8 were replaced" in said.err
    manifest = json.loads((Path(said.out.strip()) / "manifest.json").read_text())
    assert manifest["dropped"] == {"invalid UTF-8": 1}
    strict = maskwright("prepare", recipe, "--data", text, "--out", tmp_path / "strict", "--set", "data.strict=true")
    assert_clear(strict, CORPUS, str(text), f"byte {len(GOOD) + 3:,}", "0xff")
    assert is_untouched(tmp_path / "strict")


def test_one_line_of_many_megabytes_is_prepared(maskwright, recipe, tmp_path):
    text = tmp_path / "text.txt"
    text.write_bytes(GOOD.replace(b"\n", b" ") * 2000)
    said = maskwright("prepare", recipe, "--data", text, "--out", tmp_path, "--set", "tokenizer.sample_bytes=100000")
    assert said.code == 0, said.err
    splits = json.loads((Path(said.out.strip()) / "manifest.json").read_text())["splits"]
    assert sum(split["num_words"] for split in splits.values()) == 2000 * 40 * 8


BAD_SETTINGS = {
    "optimzer.learning_rate=1": ("optimzer", "did you mean 'optimizer'"),
    "optimizer.lerning_rate=1": ("optimizer.lerning_rate", "did you mean 'learning_rate'"),
    "optimizer.learning_rate=-1": ("optimizer.learning_rate", "greater than 0, got -1"),
    "optimizer.learning_rate=fast": ("optimizer.learning_rate", "got 'fast'"),
    "phases.0.objective.name=mln": ("did you mean 'mlm'",),
    "phases.0.objective.name=my_own:Thing": ("my_own", "PYTHONPATH"),
    "phases.0.objective.rat=0.4": ("phases.0.objective.rat", "did you mean 'rate'"),
    "phases.0.objective.rate=1.5": ("phases.0.objective.rate", "got 1.5"),
    "phases.7.share=1": ("phases.7.share",),
    "encoder.family=brt": ("did you mean 'bert'",),
    "encoder.size=smal": ("did you mean 'small'",),
    "encoder.overrides.num_haeds=2": ("did you mean 'num_heads'",),
    "encoder.overrides.num_heads=3": ("hidden_size 32", "num_heads 3"),
    "tokenizer.kind=words": ("tokenizer.kind", "wordpiece"),
    "batch.micro_batch_tokens=100": ("batch.tokens", "no multiple"),
    "engine.device=abacus": ("engine.device", "'abacus'"),
    "engine.attention=padde": ("did you mean 'padded'",),
    "engine.attention=varlen": ("varlen", "cpu", "NVIDIA"),
    "nonsense": ("--set key=value",),
}


@pytest.mark.parametrize("setting", BAD_SETTINGS)
def test_settings_that_can_not_be_used_are_refused_before_any_work(maskwright, recipe, tmp_path, setting):
    said = maskwright("train", recipe, "--run", tmp_path / "run", "--set", setting)
    assert_clear(said, RECIPE, *BAD_SETTINGS[setting])
    assert not (tmp_path / "run").exists()


def test_all_problems_of_a_recipe_are_told_at_once(maskwright, recipe, tmp_path):
    changes = ["--set", "seeed=1", "--set", "batch.tokens=x", "--set", "optimizer.learning_rate=-1"]
    assert_clear(maskwright("train", recipe, *changes), RECIPE, "3 problem", "seeed", "batch.tokens", "learning_rate")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("name: a\nname: b\n", ("line 2", "'name' stands twice")),
        ("name: [a\n", ("line",)),
        ("- a\n", ("holds a list",)),
        ("data: !!python/object/apply:os.system ['true']\n", ("line 1",)),
    ],
)
def test_files_that_are_no_recipes(maskwright, tmp_path, content, parts):
    path = tmp_path / "recipe.yaml"
    path.write_text(content)
    assert_clear(maskwright("plan", path), RECIPE, str(path), *parts)


def test_commands_that_say_too_little_or_too_much(maskwright, recipe, tmp_path, finished):
    for arguments, code, *parts in [
        (["train"], RECIPE, "no recipe was named"),
        (["train", tmp_path / "nope.yaml"], RECIPE, "nope.yaml is no file", "recipe.yaml"),
        (["train", "--resume"], RECIPE, "--resume without --run"),
        (["train", recipe, "--run", finished, "--resume"], RECIPE, "the run knows its recipe"),
        (["train", "--run", tmp_path / "nope", "--resume"], CHECKPOINT, "does not exist"),
        (["train", "--run", tmp_path, "--resume"], CHECKPOINT, "holds no run"),
        (["train", recipe, "--from", tmp_path], EXPORT, "neither a run nor a model"),
        (["trian", recipe], USAGE, "did you mean 'train'"),
        (["fill", finished, "no mask here"], EVALUATION, "no mask", "[MASK]"),
        (["fill", finished, "[MASK]", "--top", 0], EVALUATION, "at least 1"),
        (["fill", finished, "the " * 50 + "[MASK]"], EVALUATION, "at most 30"),
        (["fill", tmp_path / "nope", "[MASK]"], EXPORT, "does not exist"),
        (["evaluate", tmp_path], EXPORT, "neither a run nor a model"),
        (["evaluate", finished, "--tasks", "held_ot"], RECIPE, "did you mean 'held_out'"),
        (["evaluate", finished, "--tasks", ","], EVALUATION, "names no task"),
        (["evaluate", finished / "model"], EVALUATION, "--corpus"),
        (["evaluate", finished, "--corpus", tmp_path], CORPUS, "not a prepared corpus"),
        (["report", tmp_path], CHECKPOINT, "no run.json"),
        (["export", tmp_path], CHECKPOINT, "holds no run"),
        (["export", finished, "--step", 5], CHECKPOINT, "one of the steps 9, 12"),
        (["export", finished, "--step", 9, "--best"], RECIPE, "--best with --step"),
        (["doctor", tmp_path], CHECKPOINT, "neither a run nor a prepared corpus"),
    ]:
        assert_clear(maskwright(*arguments), code, *parts)
    said = maskwright("train", recipe, "--dta", "x")
    assert said.code == USAGE
    assert "--data" in said.err
    assert maskwright("train", "--run", finished, "--resume").code == 0


def test_models_to_continue_from_that_are_none(maskwright, recipe, tmp_path):
    folder = tmp_path / "gpt"
    folder.mkdir()
    config = folder / "config.json"
    config.write_text('{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}')
    assert_clear(maskwright("train", recipe, "--from", folder), EXPORT, "'gpt2' is no encoder", "ModernBERT")
    config.write_text("{")
    assert_clear(maskwright("train", recipe, "--from", folder), EXPORT, str(config), "not JSON")


def test_model_folders_that_are_damaged(maskwright, finished, tmp_path):
    whole = shutil.copytree(finished / "model", tmp_path / "model")
    (whole / "SHA256SUMS").unlink()  # as folders of others are
    for name, change, code, part in [
        ("tokenizer.json", lambda text: text[:200], CORPUS, "no tokenizer could be loaded"),
        ("config.json", lambda _: "[]", EXPORT, "holds a list"),
        ("config.json", lambda text: text.replace('"hidden_size": 32', '"hidden_size": "x"'), EXPORT, "hidden_size"),
        ("config.json", lambda text: text.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'), EXPORT, "3"),
    ]:
        before = (whole / name).read_text()
        (whole / name).write_text(change(before))
        assert_clear(maskwright("fill", whole, "[MASK]"), code, str(whole), part)
        (whole / name).write_text(before)
    weights = whole / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert_clear(maskwright("fill", whole, "[MASK]"), EXPORT, str(weights), "can't be read")


def test_tokenizers_to_take_that_are_none(maskwright, recipe, tmp_path):
    for place, part in [(tmp_path / "nothing", "does not exist"), (tmp_path, "no tokenizer could be loaded")]:
        said = maskwright("prepare", recipe, "--out", tmp_path / "out", "--set", f"tokenizer.existing={place}")
        assert_clear(said, CORPUS, str(place), part, "tokenizer.json")
    assert is_untouched(tmp_path / "out")


def test_paths_that_can_not_be_written(maskwright, recipe, tmp_path):
    for run in (recipe, recipe / "run"):
        assert_clear(maskwright("train", recipe, "--run", run), STORAGE, str(run))
    assert_clear(maskwright("prepare", recipe, "--out", recipe), STORAGE, str(recipe))


# --- corpora and runs that were changed ---------------------------------------------------------------------------


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, with a corpus of its own; returns the run."""
    record = raw_record(finished / "run.json")
    shutil.copytree(finished, tmp_path / "run")
    shutil.copytree(record["corpus"], tmp_path / "corpus")
    record["corpus"] = str(tmp_path / "corpus")
    (tmp_path / "run" / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    return tmp_path / "run"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


SHARD_FILES = ["train-00000.tokens", "train-00000.documents", "train-00000.words", "held_out-00000.tokens"]


@pytest.mark.parametrize("name", [*SHARD_FILES, "unigram_counts.npy"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "delete"])
def test_a_damaged_shard_is_named_at_start_up_and_by_doctor(maskwright, copied, name, harm):
    path = copied.parent / "corpus" / name
    if harm == "flip":
        flip(path)
    elif harm == "truncate":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    for arguments in (["train", "--run", copied, "--resume"], ["doctor", path.parent], ["doctor", copied]):
        assert_clear(maskwright(*arguments), CORPUS, str(path), "prepare it again")


def test_a_corpus_that_was_moved_is_named_once(maskwright, recipe, copied, tmp_path):
    corpus, moved = copied.parent / "corpus", tmp_path / "elsewhere"
    corpus.rename(moved)
    again = f"maskwright train --run {copied} --resume --corpus FOLDER"
    shutil.rmtree(copied / "checkpoints" / "step-000012")
    for arguments in (["train", "--run", copied, "--resume"], ["doctor", copied], ["evaluate", copied]):
        assert_clear(maskwright(*arguments), CORPUS, str(corpus), again)
    other = maskwright("prepare", recipe, "--out", tmp_path, "--set", "seed=2").out.strip()
    said = maskwright("train", "--run", copied, "--resume", "--corpus", other)
    assert_clear(said, CHECKPOINT, "is not the corpus that the run was begun with")
    assert maskwright("train", "--run", copied, "--resume", "--corpus", moved).code == 0
    assert raw_record(copied / "run.json")["corpus"] == str(moved)
    assert maskwright("doctor", copied).code == 0


def test_a_damaged_shard_is_found_when_the_corpus_is_found_again(maskwright, recipe, tmp_path):
    folder = Path(maskwright("prepare", recipe, "--out", tmp_path / "corpora").out.strip())
    flip(folder / "train-00000.tokens")
    said = maskwright("train", recipe, "--run", tmp_path / "run", "--corpora", tmp_path / "corpora")
    assert_clear(said, CORPUS, "train-00000.tokens", "altered")
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_tokenizer_that_is_not_the_one_of_the_shards(maskwright, copied):
    path = copied.parent / "corpus" / "tokenizer" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    one, other = list(vocabulary)[-2:]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    path.write_text(json.dumps(tokenizer))
    for arguments in (["train", "--run", copied, "--resume"], ["doctor", copied], ["export", copied]):
        assert_clear(maskwright(*arguments), CORPUS, str(path), "it was altered")


def test_a_manifest_that_is_damaged(maskwright, copied):
    path = copied.parent / "corpus" / "manifest.json"
    path.write_text(path.read_text()[:-40])
    assert_clear(maskwright("doctor", copied), CORPUS, str(path))


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(maskwright, copied):
    flip(copied / "checkpoints" / "step-000012" / "model.safetensors")
    said = maskwright("doctor", copied)
    assert_clear(said, CHECKPOINT, "step-000012: model.safetensors was altered", "goes back to a whole one")
    assert "model.safetensors was altered" in said.out
    again = maskwright("train", "--run", copied, "--resume")
    assert again.code == 0, again.err
    assert "step-000012 is passed over" in again.err
    assert "resuming after step 9 of 12" in again.err
    assert maskwright("doctor", copied).code == 0


def test_a_run_without_a_whole_checkpoint(maskwright, copied):
    for step in (9, 12):
        flip(copied / "checkpoints" / f"step-{step:06d}" / "model.safetensors")
    assert_clear(maskwright("train", "--run", copied, "--resume"), CHECKPOINT, "every checkpoint", "damaged")
    assert_clear(maskwright("export", copied), CHECKPOINT, "no whole checkpoint")


def test_a_record_that_is_damaged(maskwright, copied):
    (copied / "run.json").write_text("{")
    for verb in ("report", "export", "doctor"):
        assert_clear(maskwright(verb, copied), CHECKPOINT, "run.json")


def test_a_run_folder_that_holds_a_run(maskwright, recipe, copied):
    before = (copied / "run.json").read_text()
    said = maskwright("train", recipe, "--run", copied)
    assert_clear(said, RECIPE, "another recipe", "--resume")
    assert (copied / "run.json").read_text() == before


def test_a_run_folder_that_is_in_use(maskwright, recipe, copied):
    code = (
        "import sys; from pathlib import Path; from maskwright.training.safety.lock import exclusive\n"
        f"with exclusive(Path({str(copied)!r})): print('held', flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        for arguments in (["--run", copied, "--resume"], [recipe, "--run", copied]):
            assert_clear(maskwright("train", *arguments), BUSY, str(copied), f"process {holder.pid}")
        holder.kill()
    with exclusive(copied):  # a killed process gives the folder up at once
        pass


def test_a_run_that_never_made_a_step_makes_room(maskwright, recipe, tmp_path):
    run = tmp_path / "run"
    too_much = ["--set", "batch.tokens=10240000000", "--set", "batch.micro_batch_tokens=10240000000"]
    said = maskwright("train", recipe, "--run", run, *too_much)
    assert_clear(said, MEMORY, "10240000000 tokens", "batch.micro_batch_tokens=5120000000")
    assert maskwright("train", recipe, "--run", run).code == 0


def test_an_encoder_that_does_not_fit_into_memory_is_refused_before_any_work(maskwright, recipe, tmp_path):
    setting = "encoder.overrides.hidden_size=200000"
    said = maskwright("train", recipe, "--run", tmp_path / "run", "--set", setting)
    assert_clear(said, MEMORY, "GB are needed", "encoder.size")
    assert not (tmp_path / "run").exists()


# --- a disk that is full ------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk() -> Callable[[int], Any]:
    """Return a context in which no file can grow past a size, as on a disk that is full."""

    class SmallDisk:
        def __init__(self, num_bytes: int) -> None:
            self.num_bytes = num_bytes

        def __enter__(self) -> None:
            self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.num_bytes, self.before[1]))

        def __exit__(self, *_: object) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, self.before)

    return SmallDisk


def test_a_full_disk_while_preparing_leaves_nothing(maskwright, recipe, tmp_path, small_disk):
    with small_disk(3000):
        said = maskwright("prepare", recipe, "--out", tmp_path / "out")
    assert_clear(said, STORAGE, "could not be written")
    assert is_untouched(tmp_path / "out")


def test_a_full_disk_while_saving_leaves_the_last_checkpoint_whole(maskwright, copied, small_disk):
    shutil.rmtree(copied / "checkpoints" / "step-000012")
    with small_disk(20_000):
        said = maskwright("train", "--run", copied, "--resume")
    assert_clear(said, STORAGE, "step-000012 could not be written", "what was saved before is whole")
    checkpoints = Checkpoints(copied / "checkpoints", 2, True)
    assert [item.name for item in checkpoints.folder.iterdir()] == ["step-000009"]
    assert damage(checkpoints.path(9)) is None
    assert maskwright("train", "--run", copied, "--resume").code == 0


def test_too_little_room_for_a_checkpoint_is_told_before_it_is_written(maskwright, copied, monkeypatch):
    shutil.rmtree(copied / "checkpoints" / "step-000012")
    usage = shutil.disk_usage(copied)._replace(free=1000)
    monkeypatch.setattr("maskwright.core.files.shutil.disk_usage", lambda folder: usage)
    said = maskwright("train", "--run", copied, "--resume")
    assert_clear(said, STORAGE, "0.0 MB free", "for a checkpoint")


def test_a_full_disk_while_exporting_leaves_the_old_model(maskwright, copied, small_disk):
    before = (copied / "model" / "config.json").read_bytes()
    with small_disk(20_000):
        said = maskwright("export", copied)
    assert_clear(said, STORAGE, "model could not be written")
    assert (copied / "model" / "config.json").read_bytes() == before
    assert [path.name for path in copied.glob(".tmp-*")] == []


def test_debug_shows_where_an_error_came_from(recipe, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["maskwright", "prepare", str(recipe), "--data", "nothing", "--debug"])
    with pytest.raises(CorpusError):
        main()
