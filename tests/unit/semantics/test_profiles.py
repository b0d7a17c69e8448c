"""Profiles of words: brackets are read, the right tokens are coded, and what can't be profiled is refused."""

import numpy as np
import pytest
import torch

from maskwright.core.errors import CheckpointError, RecipeError
from maskwright.core.records.semantics import Context
from maskwright.models.teacher import Teacher
from maskwright.models.trained import TrainedModel
from maskwright.semantics.describe.profiles import Profiler, marked_words, profile_of_weights, tokens_of
from maskwright.semantics.dictionary import Dictionary, DictionaryProvenance
from maskwright.semantics.sparse_coding.codes import SparseCoder


def dictionary(width: int = 32, penalty: float = 0.02) -> Dictionary:
    atoms_AD = torch.randn(30, width, generator=torch.Generator().manual_seed(3))
    provenance = DictionaryProvenance(
        penalty=penalty, teacher="a teacher", teacher_sha256="ab", layer=2, num_states_seen=1, num_states=1, seed=1,
        num_updates=1, objective=0.1,
    )  # fmt: skip
    return Dictionary(torch.nn.functional.normalize(atoms_AD, dim=1), provenance)


@pytest.fixture
def teacher(encoder, vocabulary_head, vocabulary) -> Teacher:
    model = TrainedModel(encoder, vocabulary_head, vocabulary, "ab")
    return Teacher(model, -1, "a teacher", torch.device("cpu"), torch.float32)


def test_words_in_brackets():
    (word,) = marked_words("The bank raised its [rates] again.")
    assert word.text == "The bank raised its rates again."
    assert word.context == Context(left="The bank raised its ", word="rates", right=" again.")
    first, second = marked_words("[A bank] by the river [bank]")
    assert (first.context.word, first.context.right) == ("A bank", " by the river bank")
    assert (second.context.left, second.context.word) == ("A bank by the river ", "bank")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("The bank.", "no word .* in brackets"),
        ("", "no word .* in brackets"),
        ("The [] bank.", "no word in the brackets"),
        ("The [ ] bank.", "no word in the brackets"),
        ("The [bank.", "don't pair"),
        ("The bank].", "don't pair"),
        ("The [[bank]].", "don't pair"),
        ("The [MASK].", "of clean text"),
    ],
)
def test_texts_without_a_word_are_refused(text, named):
    with pytest.raises(RecipeError, match=named):
        marked_words(text)


def test_the_tokens_of_a_word_are_found(corpus):
    tokenizer = corpus.load_tokenizer()
    (word,) = marked_words("the court heard [mountains] in winter")
    found = tokens_of(word, tokenizer, 60)
    assert tokenizer.decode(found.token_ids[found.positions].tolist()).strip() == "mountains"
    assert tokenizer.decode(found.token_ids.tolist()) == word.text
    (last,) = marked_words("heard by the [court].")
    found_last = tokens_of(last, tokenizer, 60)
    assert tokenizer.decode(found_last.token_ids[found_last.positions].tolist()).strip() == "court"
    (within,) = marked_words("the court heard moun[tains] in winter")
    assert set(tokens_of(within, tokenizer, 60).positions) <= set(found.positions)


def test_a_profile_is_the_mean_code_of_the_word_in_its_text(corpus, teacher):
    tokenizer, learned = corpus.load_tokenizer(), dictionary()
    (word,) = marked_words("the court heard [mountains of work] in winter")
    profile = Profiler(teacher, learned, tokenizer).profile(word, 5)
    text = tokenizer(word.text, return_tensors="pt")  # with [CLS] and [SEP]
    length = text["input_ids"].shape[1]
    from maskwright.core.batches import EncoderInput, SequenceLayout

    zeros_T = torch.zeros(length, dtype=torch.int64)
    starts = torch.tensor([0, length], dtype=torch.int32)
    layout = SequenceLayout(starts, zeros_T.int(), torch.arange(length), zeros_T, length, length)
    with torch.no_grad():
        states = teacher.encoder(EncoderInput(text["input_ids"][0], layout))
    positions = tokens_of(word, tokenizer, 60).positions + 1
    assert len(positions) > 2
    codes, _ = SparseCoder(learned.atoms_AD, 0.02).encode(torch.nn.functional.normalize(states[positions], dim=1))
    shares = codes.sum(0) / codes.sum()
    order = shares.argsort(descending=True)[:5]
    assert [entry.atom for entry in profile.atoms] == order.tolist()
    assert [entry.weight for entry in profile.atoms] == pytest.approx(shares[order].tolist(), abs=1e-3)
    assert profile.num_atoms == int((shares > 0).sum())


def test_shares_are_of_the_whole():
    context = Context(left="", word="w", right="")
    profile = profile_of_weights(np.array([0.0, 3, 1, 0, 1]), context, 2)
    assert [(entry.atom, entry.weight) for entry in profile.atoms] == [(1, 0.6), (2, 0.2)]
    assert profile.num_atoms == 3
    assert profile_of_weights(np.zeros(4), context, 2).atoms == []


def test_what_has_no_code_or_does_not_fit_is_refused(corpus, teacher):
    tokenizer = corpus.load_tokenizer()
    profiler = Profiler(teacher, dictionary(), tokenizer)
    for text, named in (("the [☃] fell", "is zero"), ("the court " * 40 + "[heard]", "at most 62")):
        with pytest.raises(RecipeError, match=named):
            profiler.profile(marked_words(text)[0], 5)
    with pytest.raises(RecipeError, match="is zero"):
        Profiler(teacher, dictionary(penalty=1.0), tokenizer).profile(marked_words("the [court]")[0], 5)
    with pytest.raises(CheckpointError, match="hidden states of 32"):
        Profiler(teacher, dictionary(width=16), tokenizer)
