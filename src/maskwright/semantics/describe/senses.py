"""Words whose codes fall apart into two groups of occurrences: different senses, or different uses, of one word.

Of each content word that is frequent enough, the occurrences are put into two groups by average linkage on the cosine
distance of their codes; the words are ranked by the silhouette of that division. Nothing knows about senses here: what
is found is where the codes differ most.

Source: Rousseeuw 1987, 10.1016/0377-0427(87)90125-7 (silhouettes).
"""

import numpy as np
import scipy.sparse
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import silhouette_score
from transformers import PreTrainedTokenizerFast

from maskwright.core.records.semantics import Sense, Senses
from maskwright.semantics.describe.coded_text import CodedText
from maskwright.semantics.describe.profiles import profile_of

LARGEST_SHARE = 5e-4
"""More frequent words are hardly content words."""

FEWEST_LETTERS = 3

FEWEST_OCCURRENCES, MOST_OCCURRENCES = 8, 64

FEWEST_OF_A_SENSE, SMALLEST_SENSE = 3, 0.15
"""Occurrences of the smaller group, and their share."""

MOST_CANDIDATES = 400

SHOWN_ATOMS = 8


def words_with_senses(
    text: CodedText, reference: CodedText, tokenizer: PreTrainedTokenizerFast, num_words: int
) -> list[Senses]:
    """Return the words of a coded text whose two groups of occurrences are furthest apart.

    Args:
        text: where the words are looked for.
        reference: text that tells which words are frequent.
        tokenizer: of both.
        num_words: at most so many.
    """
    # As it is written: that a word begins a sentence is no sense of it.
    spellings, spelling_of_word = text.spellings(tokenizer, is_case_ignored=False)
    has_code = np.diff(text.word_codes.indptr) > 0
    counts = np.bincount(spelling_of_word[has_code], minlength=len(spellings))
    known, known_of_word = reference.spellings(tokenizer, is_case_ignored=False)
    shares = np.bincount(known_of_word, minlength=len(known)) / max(1, len(known_of_word))
    is_frequent = {known[index] for index in np.flatnonzero(shares > LARGEST_SHARE)}
    candidates = [
        index
        for index in np.argsort(-counts, kind="stable").tolist()
        if counts[index] >= FEWEST_OCCURRENCES
        and len(spellings[index]) >= FEWEST_LETTERS
        and spellings[index].isalpha()
        and spellings[index] not in is_frequent
    ]
    divided: list[tuple[float, np.ndarray, int, np.ndarray]] = []
    for index in candidates[:MOST_CANDIDATES]:
        words = np.flatnonzero((spelling_of_word == index) & has_code)
        words = words[np.linspace(0, len(words) - 1, min(len(words), MOST_OCCURRENCES)).astype(np.int64)]
        division = divide(text.word_codes[words])
        if division is not None:
            divided.append((*division, index, words))
    divided.sort(key=lambda found: -found[0])
    return [
        Senses(word=spellings[index], silhouette=silhouette, senses=_senses(text, words, group, tokenizer))
        for silhouette, group, index, words in divided[:num_words]
    ]


def divide(codes: scipy.sparse.csr_array) -> tuple[float, np.ndarray] | None:
    """Put codes into two groups; return the silhouette and each code's group, None if one group is hardly any.

    Args:
        codes: [occurrences, A], none of them zero.
    """
    distances = cosine_distances(codes)
    group = AgglomerativeClustering(n_clusters=2, metric="precomputed", linkage="average").fit_predict(distances)
    if np.bincount(group, minlength=2).min() < max(FEWEST_OF_A_SENSE, SMALLEST_SENSE * len(group)):
        return None
    return float(silhouette_score(distances, group, metric="precomputed")), group


def cosine_distances(codes: scipy.sparse.csr_array) -> np.ndarray:
    """Return one minus the cosine of every pair, 0 on the diagonal."""
    norms = np.sqrt(np.asarray(codes.multiply(codes).sum(axis=1))).ravel()
    unit = scipy.sparse.csr_array(scipy.sparse.diags_array(1 / norms) @ codes)
    cosines = scipy.sparse.csr_array(unit @ unit.T).toarray()
    distances = np.clip(1 - cosines.astype(np.float64), 0, None)
    np.fill_diagonal(distances, 0)
    return (distances + distances.T) / 2


def _senses(text: CodedText, words: np.ndarray, group: np.ndarray, tokenizer: PreTrainedTokenizerFast) -> list[Sense]:
    """Return both groups, the larger one first, each with its most typical occurrence."""
    distances = cosine_distances(text.word_codes[words])
    found = []
    for number in np.argsort(-np.bincount(group), kind="stable"):
        members = np.flatnonzero(group == number)
        typical = words[members[distances[np.ix_(members, members)].sum(axis=1).argmin()]]
        context = text.contexts(np.array([typical]), tokenizer)[0]
        profile = profile_of(text.codes_of_word(int(typical)), context, SHOWN_ATOMS)
        found.append(Sense(num_occurrences=len(members), profile=profile))
    return found
