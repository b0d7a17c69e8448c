"""The cache of targets: beside online targets and a dense look-up, after kills, damage and changes of what it is of."""

import json
import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from maskwright.batching.pack import pack_sequences
from maskwright.batching.segments import Segments
from maskwright.core.errors import CheckpointError, RecipeError
from maskwright.core.records.base import Record
from maskwright.corpus.config import DataConfig
from maskwright.corpus.corpus import Corpus, open_corpus
from maskwright.corpus.prepare import prepare
from maskwright.encoders import build_encoder
from maskwright.heads.vocabulary import VocabularyHead
from maskwright.models.teacher import Teacher, snapshot
from maskwright.semantics.dictionary import Dictionary, DictionaryProvenance
from maskwright.semantics.target_cache import build_cache as target_cache_building
from maskwright.semantics.target_cache.build_cache import build_target_cache, cache_folder, target_key
from maskwright.semantics.target_cache.cache import (
    ATOMS,
    DTYPES,
    MANIFEST,
    OFFSETS,
    RATIO_OF_LEVEL,
    WEIGHTS,
    CacheManifest,
    TargetCache,
    TargetKey,
    level_of_ratio,
    token_numbers,
)
from maskwright.semantics.targets import CodingOptions, TargetCoder
from maskwright.tokenization.train_tokenizer import TokenizerConfig

HALF_LEVEL = 2 ** (1 / 48)
"""A weight that is stored is off by at most this factor, the token's other weights as well."""

MOST_DISTANCE = HALF_LEVEL**2 - 1
"""Bound of the total variation between a target and what is stored of it."""

LENGTH = 256
"""Longer than every document."""


QUICK = CodingOptions(penalty=0.1, tolerance=0.01)
"""What most tests code with: atoms of a random teacher are alike, and high accuracy takes long."""


@dataclass(frozen=True)
class World:
    """What a cache is made of."""

    corpus: Corpus
    teacher: Teacher
    dictionary: Dictionary

    def build(self, folder: Path, options: CodingOptions | None = None, **changes: int) -> TargetCache:
        settings = {"sequence_length": LENGTH, "micro_batch_tokens": 512, "part_tokens": 400} | changes
        return build_target_cache(folder, self.corpus, self.teacher, self.dictionary, options or QUICK, **settings)

    def key(self, options: CodingOptions | None = None) -> TargetKey:
        return target_key(self.corpus, self.teacher, self.dictionary, options or QUICK, LENGTH)


@pytest.fixture(scope="module")
def world(text_file, tmp_path_factory) -> World:
    """Thirty documents, one with a word that the tokenizer does not know, a random teacher and atoms of its states."""
    texts = [json.loads(line)["text"] for line in text_file.read_text(encoding="utf-8").splitlines()[:30]]
    texts[4] = "the court \N{SNOWMAN} heard the judge."
    folder = tmp_path_factory.mktemp("world")
    path = folder / "text.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    data = DataConfig(data=str(path), held_out_fraction=0.1)
    prepare(data, TokenizerConfig(kind="wordpiece", vocabulary_size=120), folder / "corpus", seed=1)
    corpus = open_corpus(folder / "corpus", verify=False)
    sizes = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "feed_forward_size": 48}
    encoder = build_encoder("modernbert", None, sizes, corpus.vocabulary, max_positions=LENGTH, seed=5)
    model = snapshot(encoder, VocabularyHead(encoder.config, seed=5), corpus.vocabulary)
    teacher = Teacher(model, -1, "tiny", torch.device("cpu"), torch.float32)
    states = torch.cat([teacher.states(batch) for batch, _ in documents_alone(corpus)])
    atoms_AD = states[torch.randperm(len(states), generator=torch.Generator().manual_seed(0))[:60]]
    origin = DictionaryProvenance(
        penalty=0.05,
        teacher="tiny",
        teacher_sha256=model.sha256,
        layer=2,
        num_states_seen=1,
        num_states=1,
        seed=0,
        num_updates=1,
        objective=0.1,
    )
    return World(corpus, teacher, Dictionary(atoms_AD, origin))


def documents_alone(corpus: Corpus):
    """Yield each document of the train split as a batch of its own, with the number of its first token."""
    split = corpus.split("train")
    for document, length in enumerate(split.document_lengths):
        tokens = split.gather_tokens(np.array([document]), np.array([0]), np.array([length])).token_ids
        yield pack_sequences([tokens], corpus.vocabulary, LENGTH), int(split.first_tokens[document])


@pytest.fixture(scope="module")
def cache(world, tmp_path_factory) -> TargetCache:
    return world.build(tmp_path_factory.mktemp("cache") / "exact")


def dense(targets, num_atoms: int) -> torch.Tensor:
    found = torch.zeros(len(targets.atom_ids_MW), num_atoms)
    return found.scatter_add_(1, targets.atom_ids_MW, targets.weights_MW)


def online(world: World, options: CodingOptions) -> torch.Tensor:
    """Targets of every text token from its document alone, by number; special tokens are zero. [tokens, A]."""
    coder = TargetCoder(world.teacher, world.dictionary, options)
    found = torch.zeros(int(world.corpus.split("train").first_tokens[-1]), coder.num_atoms)
    for batch, first in documents_alone(world.corpus):
        is_text = ~torch.isin(batch.token_ids_T, torch.tensor(world.corpus.vocabulary.special_ids))
        positions = is_text.nonzero().squeeze(1)
        found[first + positions - 1] = dense(coder.targets(batch, positions), coder.num_atoms)
    return found


def everything(cache: TargetCache) -> torch.Tensor:
    return dense(cache.lookup(np.arange(cache.manifest.num_tokens)), cache.num_atoms)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (ATOMS, WEIGHTS, OFFSETS, MANIFEST)}


# --- the same targets as online ----------------------------------------------------------------------------------


def test_on_whole_documents_cached_targets_are_the_online_ones(world, tmp_path):
    options = CodingOptions(solver="fista", num_iterations=30)
    cached, direct = everything(world.build(tmp_path, options)), online(world, options)
    distance = 0.5 * (cached - direct).abs().sum(1)
    assert float(distance.max()) < MOST_DISTANCE + 0.001  # rounding, in another batch
    assert float(distance.mean()) < 0.008
    assert torch.allclose(cached.sum(1), (direct.sum(1) > 0).float(), atol=1e-5)
    num_text = sum(world.corpus.unigram_counts_V) - world.corpus.unigram_counts_V[world.corpus.vocabulary.unk_id]
    assert world.corpus.vocabulary.unk_id is not None and int((direct.sum(1) > 0).sum()) == num_text


def test_what_the_exact_solver_finds_is_stored_within_half_a_level(world, tmp_path):
    """In the same batches it finds the same bits, so that nothing but the levels makes a difference."""
    cache = world.build(tmp_path, part_tokens=10_000)
    coder = TargetCoder(world.teacher, world.dictionary, QUICK)
    split, vocabulary = world.corpus.split("train"), world.corpus.vocabulary
    for batch in Segments.of(split.document_lengths, LENGTH).batches(split, vocabulary, LENGTH, 512):
        positions = (~torch.isin(batch.token_ids_T, torch.tensor(vocabulary.special_ids))).nonzero().squeeze(1)
        direct = coder.targets(batch, positions)
        cached = cache.lookup(token_numbers(batch, positions, split.first_tokens))
        width = cache.width
        assert torch.equal(cached.atom_ids_MW, direct.atom_ids_MW[:, :width]) and not direct.weights_MW[:, width:].any()
        distance = 0.5 * (cached.weights_MW - direct.weights_MW[:, :width]).abs().sum(1)
        assert float(distance.max()) < MOST_DISTANCE


def test_only_the_strongest_atoms_are_kept(world, tmp_path):
    options = CodingOptions(solver="fista", num_iterations=30, keep_atoms=3)
    cache = world.build(tmp_path, options)
    direct = online(world, options)
    assert cache.width == 3 and int((direct > 0).sum(1).max()) == 3
    assert float((everything(cache) - direct).abs().sum(1).max()) / 2 < MOST_DISTANCE + 0.001
    assert cache.manifest.statistics.summary()["mean_cut_off"] > 0.01


def test_the_size_of_the_micro_batch_changes_targets_within_the_gap_alone(world, cache, tmp_path):
    other = world.build(tmp_path, micro_batch_tokens=2048)
    assert float((everything(other) - everything(cache)).abs().sum(1).mean()) / 2 < 0.01


def test_longer_documents_are_cut_from_their_start(world, tmp_path):
    cache = world.build(tmp_path, CodingOptions(solver="fista"), sequence_length=32)
    coder = TargetCoder(world.teacher, world.dictionary, CodingOptions(solver="fista"))
    split = world.corpus.split("train")
    document = int(split.document_lengths.argmax())
    tokens = split.gather_tokens(np.array([document]), np.array([30]), np.array([30])).token_ids
    batch = pack_sequences([tokens], world.corpus.vocabulary, 32)
    expected = dense(coder.targets(batch, torch.arange(1, 31)), 60)
    numbers = split.first_tokens[document] + 30 + np.arange(30)
    assert float((dense(cache.lookup(numbers), 60) - expected).abs().sum(1).max()) / 2 < MOST_DISTANCE + 0.001


# --- how they are stored -----------------------------------------------------------------------------------------


def test_a_look_up_is_what_the_files_say(cache, tmp_path):
    """Read once more token by token, and part by part, into a dense table."""
    files = {kind: np.fromfile(Path(cache._values[kind].filename), DTYPES[kind]) for kind in DTYPES}
    table = np.zeros((cache.manifest.num_tokens, cache.num_atoms), np.float32)
    token = offset = entry = 0
    for part in cache.manifest.parts:
        for place in range(part.num_tokens):
            begin, end = (entry + int(files[OFFSETS][offset + place + step]) for step in (0, 1))
            ratios = [2.0 ** (-int(level) / 24) for level in files[WEIGHTS][begin:end]]
            assert ratios == sorted(ratios, reverse=True)
            for atom, ratio in zip(files[ATOMS][begin:end], ratios, strict=True):
                table[token, atom] = ratio / sum(ratios)
            token += 1
        offset, entry = offset + part.num_tokens + 1, entry + part.num_entries
    assert len(cache.manifest.parts) > 3 and token == cache.manifest.num_tokens
    numbers = np.random.default_rng(0).integers(-1, token, 500)
    expected = np.where(numbers[:, None] >= 0, table[numbers], 0)
    assert np.abs(dense(cache.lookup(numbers), cache.num_atoms).numpy() - expected).max() < 1e-6


def test_it_is_small_and_memory_mapped(cache):
    manifest = cache.manifest
    num_bytes = sum(manifest.num_bytes(kind) for kind in DTYPES)
    num_entries = sum(part.num_entries for part in manifest.parts)
    assert num_entries == manifest.statistics.num_nonzeros
    assert num_bytes <= 1.2 * 3 * num_entries + 4 * manifest.num_tokens
    assert all(
        isinstance(cache._values[kind], np.memmap) and not cache._values[kind].flags.writeable for kind in DTYPES
    )


def test_no_tokens_and_no_token_have_no_targets(cache):
    assert cache.lookup(np.zeros(0, np.int64)).atom_ids_MW.shape == (0, cache.width)
    nothing = cache.lookup(np.array([-1, -1]))
    assert not nothing.weights_MW.any() and not nothing.atom_ids_MW.any()


def test_statistics_are_those_of_the_codes(world, cache):
    statistics, summary = cache.manifest.statistics, cache.manifest.statistics.summary()
    nonzeros = (everything(cache) > 0).sum(1)
    is_text = nonzeros > 0
    assert statistics.num_coded == int(is_text.sum()) + statistics.num_zero_codes
    assert statistics.nonzeros_histogram[1:] == torch.bincount(nonzeros, minlength=257).tolist()[1:]
    assert summary["mean_nonzeros"] == pytest.approx(float(nonzeros[is_text].double().mean()))
    assert 0 < summary["mean_relative_gap"] <= summary["largest_relative_gap"] < 0.0101
    assert summary["largest_eigenvalue"] == pytest.approx(
        float(np.linalg.eigvalsh(world.dictionary.atoms_AD.T.double() @ world.dictionary.atoms_AD.double())[-1])
    )


@given(st.lists(st.floats(2.0**-10.6, 1.0), min_size=1, max_size=50))
def test_a_level_is_within_half_a_step(ratios):
    values = np.array(ratios)
    back = RATIO_OF_LEVEL[level_of_ratio(values)]
    assert np.all(np.abs(np.log(back / values)) <= math.log(HALF_LEVEL) + 1e-6)


@given(st.lists(st.floats(1e-30, 1.0), min_size=1, max_size=50))
def test_levels_keep_order_and_never_vanish(ratios):
    values = np.sort(np.array(ratios))
    back = RATIO_OF_LEVEL[level_of_ratio(values)]
    assert np.all(np.diff(back) >= 0) and back.min() >= 2.0**-10.7 and back.max() <= 1
    assert np.array_equal(level_of_ratio(back), level_of_ratio(values))


# --- kills -------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for a signal that nothing catches."""


@pytest.mark.parametrize("parts_before", [0, 1, 3])
@pytest.mark.parametrize("is_torn", [False, True])
def test_a_killed_build_goes_on_to_the_same_bytes(world, cache, tmp_path, monkeypatch, parts_before, is_torn):
    """Killed between two parts, or when the files of a part are there and the manifest does not know of it."""
    owner, name = (Record, "write") if is_torn else (target_cache_building._Building, "_write")
    real, calls = getattr(owner, name), []

    def write(self, *arguments):
        calls.append(1)
        if len(calls) > parts_before:
            raise Killed
        real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, write)
        with pytest.raises(Killed):
            world.build(tmp_path)
    if parts_before:
        with pytest.raises(CheckpointError, match=r"is not finished: [\d,]+ of [\d,]+ tokens"):
            TargetCache.open(tmp_path, world.key(), verify=False)
        assert len(CacheManifest.read(tmp_path / MANIFEST).parts) == parts_before
    world.build(tmp_path)
    assert contents(tmp_path) == contents(Path(cache._values[ATOMS].filename).parent)


def test_a_finished_cache_is_opened_and_nothing_computed(world, cache, monkeypatch):
    monkeypatch.setattr(TargetCoder, "encode", None)
    folder = Path(cache._values[ATOMS].filename).parent
    assert world.build(folder).manifest == cache.manifest


def test_a_second_builder_waits_for_the_first(world, tmp_path, capfd):
    is_held = threading.Event()

    def hold() -> None:
        with FileLock(tmp_path / ".lock"):
            is_held.set()
            time.sleep(0.3)

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait()
    world.build(tmp_path, part_tokens=5000)
    holder.join()
    assert "another process builds the targets" in capfd.readouterr().err


# --- what is refused ---------------------------------------------------------------------------------------------


def damaged(folder: Path, kind: str, place: int) -> None:
    content = bytearray((folder / kind).read_bytes())
    content[place] ^= 1
    (folder / kind).write_bytes(content)


@pytest.mark.parametrize("kind", list(DTYPES))
def test_an_altered_part_is_named(world, tmp_path, kind):
    manifest = world.build(tmp_path, part_tokens=800).manifest
    TargetCache.open(tmp_path, manifest.key, verify=True)
    damaged(tmp_path, kind, DTYPES[kind].itemsize * manifest.parts[0].num_values(kind) + 3)
    with pytest.raises(CheckpointError, match=rf"part 2 of {len(manifest.parts)} was altered"):
        TargetCache.open(tmp_path, manifest.key, verify=True)


def test_a_truncated_file_is_refused_at_once(world, tmp_path):
    world.build(tmp_path, part_tokens=5000)
    path = tmp_path / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"targets\.weights has [\d,]+ bytes\nexpected"):
        TargetCache.open(tmp_path, world.key(), verify=False)


def test_a_build_does_not_go_on_with_damaged_parts(world, tmp_path):
    manifest = world.build(tmp_path).manifest
    shorter = manifest.model_copy(update={"parts": manifest.parts[:-1]})
    shorter.write(tmp_path / MANIFEST)
    damaged(tmp_path, ATOMS, 0)
    with pytest.raises(CheckpointError, match="part 1 of"):
        world.build(tmp_path)


@pytest.mark.parametrize(
    ("changes", "has", "wanted"),
    [
        ({"teacher": "b", "teacher_sha256": "b" * 64}, r"the teacher tiny \(\w{12}\)", r"the teacher b \(b{12}\)"),
        ({"layer": 1}, "layer 2", "layer 1"),
        ({"dictionary_sha256": "d" * 64}, r"the dictionary \w{12}", "the dictionary d{12}"),
        ({"penalty": 0.2}, r"lambda 0\.1", r"lambda 0\.2"),
        ({"solver": "fista"}, "the solver exact", "the solver fista"),
        ({"tolerance": 0.02}, r"tolerance 0\.01", r"tolerance 0\.02"),
        ({"num_iterations": 7}, "num_iterations None", "num_iterations 7"),
        ({"keep_atoms": 8}, "keep_atoms 64", "keep_atoms 8"),
        ({"corpus_sha256": "c" * 64}, r"the corpus \w{12}", "the corpus c{12}"),
        ({"sequence_length": 128}, "sequences of 256", "sequences of 128"),
    ],
)
def test_a_cache_of_other_targets_is_refused_and_what_differs_is_named(cache, changes, has, wanted):
    folder = Path(cache._values[ATOMS].filename).parent
    other = cache.manifest.key.model_copy(update=changes)
    with pytest.raises(CheckpointError, match=rf"was built for {has}\nexpected: {wanted}\n"):
        TargetCache.open(folder, other, verify=False)
    assert other.sha256 != cache.manifest.key.sha256


def test_the_teachers_name_is_no_difference(world, cache):
    renamed = cache.manifest.key.model_copy(update={"teacher": "somewhere/else"})
    TargetCache.open(Path(cache._values[ATOMS].filename).parent, renamed, verify=False)
    assert cache_folder(world.corpus, renamed) == cache_folder(world.corpus, world.key())


def test_settings_of_the_other_solver_are_no_difference(world):
    assert world.key(QUICK.model_copy(update={"num_iterations": 3})) == world.key()
    fista = CodingOptions(solver="fista")
    assert world.key(fista) == world.key(fista.model_copy(update={"tolerance": 0.1})) != world.key()


def test_all_zero_codes_are_refused_before_anything_is_written(world, tmp_path):
    with pytest.raises(
        RecipeError, match=r"lambda is 0.999: the codes of all [\d,]+ states(.|\n)*a lambda below 0\.\d+, the larg"
    ):
        smaller = Dictionary(0.9 * world.dictionary.atoms_AD, world.dictionary.provenance)
        World(world.corpus, world.teacher, smaller).build(tmp_path, CodingOptions(penalty=0.999))
    assert not (tmp_path / MANIFEST).exists()


def test_some_all_zero_codes_stay_zero(world, tmp_path):
    negative = Dictionary(world.dictionary.atoms_AD[:3], world.dictionary.provenance)
    few = World(world.corpus, world.teacher, negative)
    cache = few.build(tmp_path, CodingOptions(penalty=0.9))
    sums = everything(cache).sum(1)
    assert 0 < cache.manifest.statistics.num_zero_codes < len(sums)
    assert set(sums.round(decimals=5).tolist()) == {0.0, 1.0}
