"""Coded text: codes stand beside their tokens, words and contexts are read back as they were written."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskwright.batching.pack import pack_sequences
from maskwright.core.randomness import numpy_generator
from maskwright.core.records.semantics import Context
from maskwright.models.teacher import Teacher
from maskwright.models.trained import TrainedModel
from maskwright.semantics.describe.coded_text import as_written, coded_batch, coded_sample, joined, plain_word, split_up
from maskwright.semantics.sparse_coding.codes import SparseCoder
from maskwright.tokenization.train_tokenizer import TokenizerConfig, train_tokenizer


@pytest.fixture
def teacher(encoder, vocabulary_head, vocabulary) -> Teacher:
    return Teacher(
        TrainedModel(encoder, vocabulary_head, vocabulary, "ab"), -1, "a teacher", torch.device("cpu"), torch.float32
    )


@pytest.fixture
def coder() -> SparseCoder:
    atoms_AD = torch.randn(20, 32, generator=torch.Generator().manual_seed(3))
    return SparseCoder(torch.nn.functional.normalize(atoms_AD, dim=1), 0.05)


@pytest.fixture
def text(corpus, teacher, coder):
    return coded_sample(corpus, "train", teacher, coder, 1500, 32, 256, numpy_generator(1, "test"))


def test_each_token_has_the_code_of_its_own_state(corpus, teacher, coder):
    batch = next(iter_batches(corpus))
    text = coded_batch(batch, teacher, coder, corpus.vocabulary)
    is_text_T = ~np.isin(
        batch.token_ids_T, [corpus.vocabulary.cls_id, corpus.vocabulary.sep_id, corpus.vocabulary.pad_id]
    )
    assert np.array_equal(text.token_ids, batch.token_ids_T[is_text_T])
    expected, _ = coder.encode(teacher.states(batch)[torch.from_numpy(is_text_T)])
    expected[torch.from_numpy(~text.is_coded)] = 0
    assert np.abs(text.codes.toarray() - expected.numpy()).max() < 1e-3


def test_unknown_tokens_keep_their_place_without_a_code(corpus, teacher, coder):
    unknown = corpus.vocabulary.unk_id
    ids = np.array([20, unknown, 21, unknown])
    text = coded_batch(pack_sequences([ids], corpus.vocabulary, 6), teacher, coder, corpus.vocabulary)
    assert text.token_ids.tolist() == ids.tolist()
    assert text.is_coded.tolist() == [True, False, True, False]
    assert (np.diff(text.codes.indptr) > 0).tolist() == [True, False, True, False]
    assert len(text.report.nonzeros_M) == 2


def iter_batches(corpus):
    from maskwright.batching.segments import Segments

    split = corpus.split("train")
    return Segments.of(split.document_lengths, 32).batches(split, corpus.vocabulary, 32, 256)


def test_a_word_is_coded_by_the_mean_of_its_tokens(text):
    lengths = np.diff(text.word_starts)
    word = int(lengths.argmax())
    assert lengths[word] > 1
    codes = text.codes.toarray()[text.word_starts[word] : text.word_starts[word + 1]]
    expected = codes.mean(axis=0) / codes.mean(axis=0).sum()
    assert np.allclose(text.word_codes.toarray()[word], expected, atol=1e-6)


def test_contexts_are_what_the_tokens_say(text, corpus):
    tokenizer = corpus.load_tokenizer()
    words = np.arange(0, len(text.word_starts) - 1, 17)
    for word, context in zip(words, text.contexts(words, tokenizer), strict=True):
        sequence = text.sequence_ids[text.word_starts[word]]
        whole = tokenizer.decode(text.token_ids[text.sequence_ids == sequence].tolist())
        assert context.left + context.word + context.right in whole.replace(" .", ".")
        own = text.token_ids[text.word_starts[word] : text.word_starts[word + 1]].tolist()
        assert context.word == tokenizer.decode(own).strip()


def test_spellings_put_cases_and_punctuation_together(text, corpus):
    spellings, number = text.spellings(corpus.load_tokenizer())
    assert len(set(spellings)) == len(spellings)
    assert len(number) == len(text.word_starts) - 1
    contexts = text.contexts(np.arange(40), corpus.load_tokenizer())
    assert [spellings[each] for each in number[:40]] == [plain_word(context.word.casefold()) for context in contexts]
    as_written, number = text.spellings(corpus.load_tokenizer(), is_case_ignored=False)
    assert [as_written[each] for each in number[:40]] == [plain_word(context.word) for context in contexts]
    assert len(as_written) > len(spellings)


@pytest.mark.parametrize(
    ("text", "word"), [(" Court,", "Court"), ("(New)", "New"), ("...", "..."), ("it's", "it's"), ("", "")]
)
def test_plain_words(text, word):
    assert plain_word(text) == word


@pytest.mark.parametrize(
    "text",
    [
        "The court's, and the judge's (new) rule: it isn't well-known!",
        "“Quoted,” she said; 30% of it. He'd go.",
        "A dash - here, and one of 3-4 words...",
    ],
)
def test_words_of_wordpiece_are_joined_as_people_write(text):
    tokenizer = train_tokenizer([text] * 3, TokenizerConfig(vocabulary_size=400))
    spaced = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False))
    words = spaced.split(" ")
    for number, word in enumerate(words):
        before, after = (" ".join(part) for part in (words[:number], words[number + 1 :]))
        left = before + " " if before else ""
        shown = as_written(Context(left=left, word=word, right=" " + after if after else ""))
        assert shown.word == word
        assert shown.left + shown.word + shown.right == text.replace("dash - here", "dash-here")  # can't be told


def test_what_goes_on_without_spaces_is_cut_into_tokens(text):
    endless = replace(text, begins_word=np.arange(len(text.token_ids)) == 0)
    assert np.array_equal(endless.word_starts, np.arange(len(text.token_ids) + 1))
    lasting = np.ones(len(text.token_ids), bool)
    lasting[1:16] = False
    assert np.diff(replace(text, begins_word=lasting).word_starts)[:2].tolist() == [16, 1]


def test_joined_texts_keep_their_sequences_apart(text):
    both = joined([text, text])
    assert len(np.unique(both.sequence_ids)) == 2 * len(np.unique(text.sequence_ids))
    assert (np.diff(both.sequence_ids) >= 0).all()
    assert scipy.sparse.linalg.norm(both.codes[len(text.token_ids) :] - text.codes) == 0


@given(st.text(max_size=6), st.text(max_size=6), st.text(max_size=6), st.text(max_size=2))
def test_no_character_is_lost_whatever_a_decoder_does_at_ends(left, word, right, noise):
    whole = left + word + right
    parts = split_up(left + noise, left + word + noise, whole)
    assert parts.left + parts.word + parts.right == whole
    assert split_up(left, left + word, whole).right == right
