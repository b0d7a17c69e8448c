"""What atoms mean: labels, contexts and frequencies of a text whose codes are known."""

import numpy as np
import pytest
import scipy.sparse
import torch

from maskwright.batching.segments import Segments
from maskwright.semantics.describe.atoms import DescriptionOptions, atoms_of, labels_of, readable, strongest_words
from maskwright.semantics.describe.coded_text import CodedText
from maskwright.semantics.describe.senses import cosine_distances, divide, words_with_senses
from maskwright.semantics.sparse_coding.codes import CodingReport

OPTIONS = DescriptionOptions(num_contexts=3, label_words=2)


def coded(token_ids: np.ndarray, begins_word: np.ndarray, codes_NA: np.ndarray, sequence_length: int = 20) -> CodedText:
    """Return a text with given codes."""
    nothing = torch.zeros(len(token_ids))
    report = CodingReport(nothing, nothing, nothing, torch.from_numpy((codes_NA > 0).sum(1)), 1, 1.0)
    codes = scipy.sparse.csr_array(codes_NA.astype(np.float32))
    is_coded = np.ones(len(token_ids), bool)
    return CodedText(token_ids, np.arange(len(token_ids)) // sequence_length, begins_word, is_coded, codes, report)


@pytest.fixture
def tokens(corpus) -> tuple[np.ndarray, np.ndarray]:
    """The beginning of the corpus: token ids and word starts."""
    split = corpus.split("train")
    segments = Segments.of(split.document_lengths, 32).take(slice(0, 60))
    return split.gather_tokens(segments.documents, segments.starts, segments.lengths)


@pytest.fixture
def text(corpus, tokens) -> CodedText:
    """Atom 0 is strong on the word "court" and weak everywhere; 1 is on "river" and "boats"; 2 is dead."""
    token_ids, begins_word = tokens.token_ids, tokens.word_starts
    tokenizer = corpus.load_tokenizer()
    codes = np.zeros((len(token_ids), 3))
    codes[:, 0] = 0.01
    for word, atom, weight in (("court", 0, 0.8), ("river", 1, 0.5), ("boats", 1, 0.4)):
        ids = tokenizer.encode(word, add_special_tokens=False)
        found = np.flatnonzero(token_ids == ids[0])
        assert len(ids) == 1
        assert len(found) > 5
        codes[found, atom] = weight + np.linspace(0, 0.05, len(found))
    return coded(token_ids, begins_word, codes)


def test_atoms_are_labelled_by_their_words(corpus, text):
    court, water, dead = atoms_of(text, corpus.load_tokenizer(), OPTIONS)
    assert court.label[0] == "court"
    assert water.label == ["river", "boats"]
    assert (dead.label, dead.frequency, dead.mean_weight, dead.contexts) == ([], 0.0, 0.0, [])
    assert court.frequency == 1.0
    assert water.frequency == pytest.approx((text.codes.toarray()[:, 1] > 0).mean())
    assert 0.4 < water.mean_weight < 0.55


def test_contexts_are_the_strongest_places_in_order(corpus, text):
    court, water, _ = atoms_of(text, corpus.load_tokenizer(), OPTIONS)
    weights = text.codes.toarray()
    assert [context.word.lower() for context in court.contexts] == ["court"] * 3
    assert [context.weight for context in court.contexts] == pytest.approx(np.sort(weights[:, 0])[::-1][:3])
    assert water.contexts[0].weight == pytest.approx(weights[:, 1].max())
    assert [context.word for context in water.contexts] == ["river"] * 3


def test_strongest_words_count_a_word_of_several_tokens_once():
    codes = np.array([[0.9, 0], [0.8, 0], [0.7, 0.1], [0.6, 0]])
    text = coded(np.arange(4), np.array([True, False, True, True]), codes)
    atoms, words, weights = strongest_words(text, 3)
    assert atoms.tolist() == [0, 0, 1]
    assert words.tolist() == [0, 1, 1]
    assert weights == pytest.approx([0.9, 0.7, 0.1])


def test_labels_are_the_log_odds_written_down_one_by_one():
    generator = np.random.default_rng(3)
    spelling = generator.integers(0, 9, 400)
    codes = generator.random((400, 5)) * (generator.random((400, 5)) < 0.3)
    codes[spelling == 4, 2] += 1
    text = coded(spelling, np.ones(400, bool), codes)
    codes, sequence = text.codes.toarray().astype(np.float64), np.arange(400) // 20
    mentions = [
        (each, word) for each in range(20) for word in range(9) if ((sequence == each) & (spelling == word)).any()
    ]
    total = np.bincount([word for _, word in mentions], minlength=9)
    for atom, found in enumerate(labels_of(text, spelling, 9, 3)):
        strongest = {pair: codes[(sequence == pair[0]) & (spelling == pair[1]), atom].max() for pair in mentions}
        own = np.array([sum(weight**2 for pair, weight in strongest.items() if pair[1] == word) for word in range(9)])
        size = sum(weight > 0 for weight in strongest.values())
        own *= size / own.sum()
        alpha = 500.0 * total / total.sum()
        odds = np.log((own + alpha) / (size + 500.0 - own - alpha))
        odds -= np.log((total + alpha) / (total.sum() + 500.0 - total - alpha))
        score = odds / np.sqrt(1 / (own + alpha) + 1 / (total + alpha))
        assert found == [word for word in np.argsort(-score) if score[word] > 0 and own[word] > 0][:3]
    assert labels_of(text, spelling, 9, 3)[2][0] == 4


@pytest.mark.parametrize(
    ("label", "expected"),
    [(["bank", ",", "loan"], ["bank", "loan"]), ([",", "and"], [",", "and"]), ([], [])],
)
def test_punctuation_is_left_out_of_labels_that_are_not_about_it(label, expected):
    assert readable(label) == expected


def test_a_text_without_codes_has_no_labels():
    text = coded(np.arange(5), np.ones(5, bool), np.zeros((5, 3)))
    assert labels_of(text, np.arange(5), 5, 2) == [[], [], []]


def test_a_word_with_two_groups_of_codes_is_found(corpus, tokens, monkeypatch):
    """Of words that are all as frequent, "river" is coded in two ways and "grain" in one."""
    token_ids, begins_word = tokens.token_ids, tokens.word_starts
    tokenizer = corpus.load_tokenizer()
    generator = np.random.default_rng(5)
    codes = 0.05 * generator.random((len(token_ids), 12))
    for word, atoms in (("river", (3, 7)), ("grain", (5, 5))):
        found = np.flatnonzero(token_ids == tokenizer.encode(word, add_special_tokens=False)[0])
        codes[found[::2], atoms[0]] = codes[found[1::2], atoms[1]] = 0.9
    text = coded(token_ids, begins_word, codes)
    monkeypatch.setattr("maskwright.semantics.describe.senses.LARGEST_SHARE", 1.0)
    best = words_with_senses(text, text, tokenizer, 3)[0]
    assert best.word == "river"
    assert best.silhouette > 0.8
    assert {sense.profile.atoms[0].atom for sense in best.senses} == {3, 7}
    assert all(sense.profile.context.word.strip(".") == "river" for sense in best.senses)
    assert abs(best.senses[0].num_occurrences - best.senses[1].num_occurrences) <= 1


def test_frequent_words_are_no_candidates(corpus, text):
    assert words_with_senses(text, text, corpus.load_tokenizer(), 3) == []


def test_distances_of_codes():
    codes = scipy.sparse.csr_array(np.array([[1.0, 0, 0], [0, 2, 0], [1, 1, 0]]))
    expected = np.array([[0, 1, 1 - 0.5**0.5], [1, 0, 1 - 0.5**0.5], [1 - 0.5**0.5, 1 - 0.5**0.5, 0]])
    assert np.allclose(cosine_distances(codes), expected)


def test_one_odd_occurrence_is_no_sense():
    codes = np.zeros((10, 4))
    codes[:, 0] = 1 + np.arange(10) / 100
    codes[0, :2] = 0, 1
    codes[:, 2] = np.arange(10) / 50
    assert divide(scipy.sparse.csr_array(codes)) is None
