"""Making dictionaries: the same however often it is killed, uniform over the corpus, refused where it can't be."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from maskwright.core import resumable_work as saving
from maskwright.core.batches import EncoderInput, SequenceLayout
from maskwright.core.errors import CheckpointError, CorpusError, MemoryShortage, RecipeError
from maskwright.core.records.semantics import ATOMS, AtomsRecord
from maskwright.corpus.corpus import Corpus
from maskwright.encoders import build_encoder
from maskwright.heads.vocabulary import VocabularyHead
from maskwright.models.teacher import Teacher
from maskwright.models.trained import TrainedModel
from maskwright.semantics import make_dictionary as dictionary_making
from maskwright.semantics.describe.atoms import DescriptionOptions
from maskwright.semantics.dictionary import Dictionary
from maskwright.semantics.make_dictionary import UNFINISHED, SampleOptions, make_dictionary
from maskwright.semantics.sparse_coding.dictionary_learning import DictionaryConfig

CONFIG = DictionaryConfig(num_atoms=20, penalty=0.05, batch_states=64, num_updates=12)
SAMPLE = SampleOptions(
    num_states=300, num_tokens=2000, description=DescriptionOptions(num_tokens=800, held_out_tokens=300)
)


@pytest.fixture
def teacher(encoder, vocabulary_head: VocabularyHead, vocabulary) -> Teacher:
    model = TrainedModel(encoder, vocabulary_head, vocabulary, "ab" * 32)
    return Teacher(model, -1, "a teacher", torch.device("cpu"), torch.float32)


def make(folder: Path, corpus: Corpus, teacher: Teacher, **changes: object) -> Dictionary:
    arguments = {
        "config": CONFIG, "sample": SAMPLE, "sequence_length": 32, "micro_batch_tokens": 256, "seed": 4
    }  # fmt: skip
    return make_dictionary(folder, corpus, teacher, **{**arguments, **changes})  # pyright: ignore[reportArgumentType]


def test_what_is_made_says_where_it_comes_from_and_is_found_again(tmp_path, corpus, teacher, monkeypatch):
    made = make(tmp_path, corpus, teacher)
    provenance = made.provenance
    assert made.atoms_AD.shape == (20, 32)
    assert (provenance.teacher, provenance.teacher_sha256, provenance.layer) == ("a teacher", "ab" * 32, 2)
    assert provenance.corpus_sha256 == corpus.manifest.content_sha256
    assert (provenance.num_states, provenance.num_updates) == (300, 12)
    assert 1900 < provenance.num_states_seen <= 2032
    assert provenance.settings["sequence_length"] == 32
    assert AtomsRecord.read(tmp_path / ATOMS).dictionary_sha256 == made.sha256
    assert not (tmp_path / UNFINISHED).exists()
    monkeypatch.setattr(Teacher, "states", None)
    assert make(tmp_path, corpus, teacher).sha256 == made.sha256


def test_states_are_those_of_text_tokens_of_the_whole_corpus(tmp_path, corpus, teacher, monkeypatch):
    """With room for all, the sample is the hidden states that the encoder has for each document on its own."""
    samples = []
    learn = dictionary_making.learn_dictionary

    def watched(learner, sample_ND, on_update):
        samples.append(sample_ND)
        return learn(learner, sample_ND, on_update)

    monkeypatch.setattr(dictionary_making, "learn_dictionary", watched)
    everything = SampleOptions(num_states=50_000, num_tokens=50_000, description=SAMPLE.description)
    make(tmp_path, corpus, teacher, sample=everything, sequence_length=64)
    split, total = corpus.split("train"), torch.zeros(32, dtype=torch.float64)
    encoder, vocabulary = copy.deepcopy(teacher.encoder), corpus.vocabulary
    num_states = 0
    for document, length in enumerate(split.document_lengths):
        tokens = split.gather_tokens(np.array([document]), np.array([0]), np.array([length])).token_ids
        for begin in range(0, length, 62):
            part = np.concatenate([[vocabulary.cls_id], tokens[begin : begin + 62], [vocabulary.sep_id]])
            layout = _one_sequence(len(part))
            with torch.no_grad():
                states = encoder(EncoderInput(torch.from_numpy(part), layout))
            is_text = ~np.isin(part, vocabulary.special_ids)
            total += torch.nn.functional.normalize(states, dim=1)[is_text].double().sum(0)
            num_states += int(is_text.sum())
    (sample_ND,) = samples
    assert len(sample_ND) == num_states
    assert torch.allclose(sample_ND.double().sum(0), total, atol=1e-3)


def _one_sequence(length: int):
    zeros_T = torch.zeros(length, dtype=torch.int64)
    starts = torch.tensor([0, length], dtype=torch.int32)
    return SequenceLayout(starts, zeros_T.int(), torch.arange(length), zeros_T, length, length)


def make_and_kill(folder, corpus, teacher, monkeypatch, calls: int) -> None:
    """Begin a dictionary, and end with the teacher's call after `calls` of them; all is saved that can be."""
    states, left = Teacher.states, [calls]

    def killed(self, *arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return states(self, *arguments)

    monkeypatch.setattr(saving, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(saving, "LARGEST_SHARE_OF_SAVING", 1e9)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Teacher, "states", killed)
        make(folder, corpus, teacher)


@pytest.mark.parametrize("calls", [1, 5, 9])
def test_killed_while_the_teacher_reads(tmp_path, corpus, teacher, monkeypatch, calls):
    straight = make(tmp_path / "straight", corpus, teacher)
    states = Teacher.states
    make_and_kill(tmp_path / "killed", corpus, teacher, monkeypatch, calls)
    count = [0]
    monkeypatch.setattr(Teacher, "states", lambda *a: count.__setitem__(0, count[0] + 1) or states(*a))
    again = make(tmp_path / "killed", corpus, teacher)
    assert torch.equal(again.atoms_AD, straight.atoms_AD)
    assert again.sha256 == straight.sha256
    assert (tmp_path / "killed" / ATOMS).read_bytes() == (tmp_path / "straight" / ATOMS).read_bytes()


def test_a_killed_process_may_go_on_with_other_batches(tmp_path, corpus, teacher, monkeypatch):
    straight = make(tmp_path / "straight", corpus, teacher)
    make_and_kill(tmp_path / "killed", corpus, teacher, monkeypatch, 3)
    again = make(tmp_path / "killed", corpus, teacher, micro_batch_tokens=160)
    assert again.provenance.num_states_seen == straight.provenance.num_states_seen
    assert torch.allclose(again.atoms_AD, straight.atoms_AD, atol=1e-4)


def test_killed_while_it_learns_nothing_is_read_again(tmp_path, corpus, teacher, monkeypatch):
    straight = make(tmp_path / "straight", corpus, teacher)
    learn = dictionary_making.learn_dictionary

    def killed(learner, sample_ND, on_update):
        for _ in range(7):
            on_update(learner.update(learner.batch_of(sample_ND)))
        raise KeyboardInterrupt

    monkeypatch.setattr(saving, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(saving, "LARGEST_SHARE_OF_SAVING", 1e9)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(dictionary_making, "learn_dictionary", killed)
        make(tmp_path / "killed", corpus, teacher)
    begun_at = []
    with monkeypatch.context() as patch:
        patch.setattr(Teacher, "states", None)
        patch.setattr(dictionary_making, "describe_atoms", lambda *_: None)
        patch.setattr(
            dictionary_making,
            "learn_dictionary",
            lambda learner, *rest: begun_at.append(learner.num_updates) or learn(learner, *rest),
        )
        again = make(tmp_path / "killed", corpus, teacher)
    assert begun_at == [7]
    assert torch.equal(again.atoms_AD, straight.atoms_AD)


def test_what_was_begun_with_other_settings_is_begun_again(tmp_path, corpus, teacher, monkeypatch):
    monkeypatch.setattr(saving, "SAVE_SECONDS", 0.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(dictionary_making, "learn_dictionary", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        make(tmp_path / "a", corpus, teacher, seed=9)
    assert make(tmp_path / "a", corpus, teacher).sha256 == make(tmp_path / "b", corpus, teacher).sha256


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"config": CONFIG.model_copy(update={"penalty": 0.06})}, "penalty is 0.05, not 0.06"),
        ({"config": CONFIG.model_copy(update={"num_atoms": 21})}, "num atoms is 20.0, not 21.0"),
        ({"seed": 5}, "seed is 4, not 5"),
    ],
)
def test_another_dictionary_is_not_replaced(tmp_path, corpus, teacher, changes, named):
    make(tmp_path, corpus, teacher)
    with pytest.raises(CheckpointError, match=named):
        make(tmp_path, corpus, teacher, **changes)


def test_what_cannot_be_made_is_refused_before_the_teacher_reads(tmp_path, corpus, teacher, monkeypatch):
    monkeypatch.setattr(Teacher, "states", None)
    few = CONFIG.model_copy(update={"num_atoms": 1})
    many = CONFIG.model_copy(update={"num_atoms": 60_000})
    with pytest.raises(RecipeError, match="dictionary of 1 atoms"):
        make(tmp_path, corpus, teacher, config=few)
    with pytest.raises(RecipeError, match="60,000 atoms from a sample of 300"):
        make(tmp_path, corpus, teacher, config=many)
    with pytest.raises(CorpusError, match="tokens to learn 60,000 atoms"):
        make(tmp_path, corpus, teacher, config=many, sample=SampleOptions())
    assert not any(tmp_path.iterdir())


def test_atoms_that_do_not_fit_into_memory_are_refused(tmp_path, corpus, teacher, monkeypatch):
    monkeypatch.setattr(dictionary_making, "available_memory_bytes", lambda device: 100_000)
    with pytest.raises(MemoryShortage, match=r"a dictionary of 200 atoms takes 0\.\d GB while it is learned"):
        make(tmp_path, corpus, teacher, config=CONFIG.model_copy(update={"num_atoms": 200}))
    assert not any(tmp_path.iterdir())


def test_too_large_a_lambda_is_refused_with_the_largest_of_use(tmp_path, corpus, teacher):
    with pytest.raises(RecipeError, match=r"lambda is 3: every code is zero\nexpected: less than (0\.\d+|1)"):
        make(tmp_path, corpus, teacher, config=CONFIG.model_copy(update={"penalty": 3.0}))


def test_another_tokenizer_is_refused(tmp_path, corpus, teacher, vocabulary):
    from dataclasses import replace

    encoder = build_encoder("modernbert", None, {"num_layers": 1, "hidden_size": 16, "num_heads": 1,
                            "feed_forward_size": 16}, vocabulary, max_positions=64, seed=5)  # fmt: skip
    other = TrainedModel(encoder, VocabularyHead(encoder.config, seed=1), replace(vocabulary, sha256="c" * 64), "d")
    with pytest.raises(RecipeError, match="another tokenizer"):
        make(tmp_path, corpus, Teacher(other, -1, "other", torch.device("cpu"), torch.float32))
