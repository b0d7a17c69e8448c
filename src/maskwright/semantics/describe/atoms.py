"""What the atoms of a dictionary mean: strongest contexts, labels, frequencies, and how words use them.

Everything is computed once, from a bounded coded sample of the corpus, and written next to the dictionary as
`atoms.json`; profiles and reports only read it.

A is the number of atoms, W the number of different words.

Source: Monroe, Colaresi and Quinn 2008, 10.1093/pan/mpn018 (weighted log-odds with a prior, for the labels).
"""

from pathlib import Path

import numpy as np
import scipy.sparse
from pydantic import Field
from transformers import PreTrainedTokenizerFast

from maskwright.core.log import say
from maskwright.core.options import Options
from maskwright.core.randomness import numpy_generator
from maskwright.core.records.semantics import ATOMS, Atom, AtomContext, AtomsRecord
from maskwright.corpus.corpus import Corpus
from maskwright.models.teacher import Teacher
from maskwright.semantics.describe.coded_text import CodedText, coded_sample
from maskwright.semantics.describe.senses import words_with_senses
from maskwright.semantics.dictionary import Dictionary
from maskwright.semantics.sparse_coding.codes import SparseCoder

PRIOR_WORDS = 500.0
"""Words of the whole text that are added to each atom's own before they are compared: keeps rare words from labels."""

CANDIDATES_PER_CONTEXT = 4
"""Tokens looked at for one context: several tokens of one word, or equal text, count once."""


class DescriptionOptions(Options):
    """How atoms are described."""

    num_tokens: int = Field(default=100_000, gt=0, description="tokens of the train split that are coded for it")
    held_out_tokens: int = Field(default=100_000, gt=0, description="tokens of held-out text, for words with senses")
    num_contexts: int = Field(default=6, gt=0, description="strongest contexts kept for each atom")
    label_words: int = Field(default=4, gt=0, description="most distinctive words that label an atom")
    num_words: int = Field(default=8, ge=0, description="words with several senses that are shown")


def describe_atoms(
    folder: Path,
    corpus: Corpus,
    teacher: Teacher,
    dictionary: Dictionary,
    options: DescriptionOptions,
    sequence_length: int,
    micro_batch_tokens: int,
    seed: int,
) -> AtomsRecord:
    """Describe the atoms of a dictionary and write `atoms.json` into `folder`; cost: coding the sample.

    Args:
        folder: the folder of the dictionary.
        corpus: both splits are sampled.
        teacher: whose states the dictionary is for.
        dictionary: is coded with at the lambda it was learned for.
        options: how much.
        sequence_length: tokens in a row.
        micro_batch_tokens: tokens that may pass through the teacher at once.
        seed: of the samples.

    Raises:
        CheckpointError: the dictionary has another width than the teacher.
        StorageError: it can't be written.
    """
    dictionary.require_width(teacher.width, teacher.name)
    coder = SparseCoder(dictionary.atoms_AD.to(teacher.device), dictionary.provenance.penalty)
    tokenizer = corpus.load_tokenizer()
    train, held_out = (
        coded_sample(
            corpus,
            split,
            teacher,
            coder,
            num_tokens,
            sequence_length,
            micro_batch_tokens,
            numpy_generator(seed, f"described_{split}"),
        )
        for split, num_tokens in (("train", options.num_tokens), ("held_out", options.held_out_tokens))
    )
    say("describing the atoms")
    record = AtomsRecord(
        dictionary_sha256=dictionary.sha256,
        teacher=dictionary.provenance.teacher,
        layer=dictionary.provenance.layer,
        penalty=dictionary.provenance.penalty,
        num_tokens=int(train.is_coded.sum()),
        coding=train.report.summary(),
        nonzeros=np.bincount(train.report.nonzeros_M.numpy()).tolist(),
        atoms=atoms_of(train, tokenizer, options),
        words=words_with_senses(held_out, train, tokenizer, options.num_words),
    )
    record.write(folder / ATOMS)
    return record


def atoms_of(text: CodedText, tokenizer: PreTrainedTokenizerFast, options: DescriptionOptions) -> list[Atom]:
    """Return what each atom means in a coded text."""
    by_atom = scipy.sparse.csc_array(text.codes)
    uses_A = np.diff(by_atom.indptr)
    weights_A = np.asarray(text.codes.sum(axis=0, dtype=np.float64)).ravel()
    spellings, spelling_of_word = text.spellings(tokenizer)
    labels = labels_of(text, spelling_of_word, len(spellings), 2 * options.label_words)
    atom_of_context, words, weights = strongest_words(text, options.num_contexts * CANDIDATES_PER_CONTEXT)
    contexts: list[list[AtomContext]] = [[] for _ in uses_A]
    seen: set[tuple[int, str]] = set()
    for atom, context, weight in zip(
        atom_of_context.tolist(), text.contexts(words, tokenizer), weights.tolist(), strict=True
    ):
        key = atom, context.left + context.word + context.right
        if len(contexts[atom]) < options.num_contexts and key not in seen:
            seen.add(key)
            contexts[atom].append(AtomContext(**context.model_dump(), weight=weight))
    num_coded = max(1, int(text.is_coded.sum()))
    return [
        Atom(
            label=readable([spellings[word] for word in labels[atom]])[: options.label_words],
            frequency=int(uses) / num_coded,
            mean_weight=float(weights_A[atom] / uses) if uses else 0.0,
            contexts=contexts[atom],
        )
        for atom, uses in enumerate(uses_A)
    ]


def readable(label: list[str]) -> list[str]:
    """Return a label without punctuation, unless that is what the atom favours most."""
    words = [word for word in label if any(character.isalnum() for character in word)]
    return words if label and label[0] in words else label


def strongest_words(text: CodedText, num_candidates: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each atom the words of its `num_candidates` strongest tokens, each word once.

    Returns:
        Atoms, words and weights, by atom and then by falling weight.
    """
    entries = text.codes.tocoo()
    atoms, tokens, weights = entries.col, entries.row, np.asarray(entries.data)
    order = np.lexsort((tokens, np.negative(weights), atoms))
    atoms, tokens, weights = atoms[order], tokens[order], weights[order]
    rank = np.arange(len(atoms)) - np.searchsorted(atoms, atoms)
    kept = rank < num_candidates
    atoms, words, weights = atoms[kept], text.word_of_token[tokens[kept]], weights[kept]
    _, first = np.unique(np.stack([atoms, words]), axis=1, return_index=True)
    first.sort()
    return atoms[first], words[first], weights[first]


def labels_of(text: CodedText, spelling_of_word: np.ndarray, num_spellings: int, num_words: int) -> list[list[int]]:
    """Return the most distinctive words of each atom: the distribution of its weight, compared with the text's.

    A word counts once a sequence, so that one text that repeats itself makes no label. An atom's squared weight on a
    word, in units of its mean, is a count; log-odds of that count against the word's count in the whole text, over
    their standard error, rank the words. The prior is the whole text's distribution. Squares, because weak weights are
    spread over words that say nothing.

    Args:
        text: the coded text.
        spelling_of_word: int64, which of W spellings each word has.
        num_spellings: W.
        num_words: words of a label.
    """
    num_atoms = text.num_atoms
    spelling_of_token = spelling_of_word[text.word_of_token]
    index_of_token = text.sequence_ids * num_spellings + spelling_of_token
    mentioned = np.unique(index_of_token[text.is_coded]) % num_spellings
    totals_W = np.bincount(mentioned, minlength=num_spellings).astype(np.float64)
    entries = text.codes.tocoo()
    atoms, positions = entries.col.astype(np.int64), index_of_token[entries.row]
    order = np.lexsort((np.negative(entries.data), positions, atoms))
    atoms, positions, weights = atoms[order], positions[order], np.asarray(entries.data, np.float64)[order]
    is_strongest = np.append(True, (np.diff(atoms) > 0) | (np.diff(positions) > 0))[: len(atoms)]
    atoms, words, energies = atoms[is_strongest], positions[is_strongest] % num_spellings, weights[is_strongest] ** 2
    uses_A, energy_A = np.bincount(atoms, minlength=num_atoms), np.bincount(atoms, energies, minlength=num_atoms)
    used, pair = np.unique(atoms * num_spellings + words, return_inverse=True)
    atoms, words = np.divmod(used, num_spellings)
    counts = np.bincount(pair, energies) * (uses_A / np.where(energy_A > 0, energy_A, 1))[atoms]
    scores = log_odds_scores(counts, uses_A[atoms], totals_W[words], totals_W.sum())
    order = np.lexsort((words, -scores, atoms))
    rank = np.arange(len(order)) - np.searchsorted(atoms, atoms)
    chosen = order[(rank < num_words) & (scores[order] > 0)]
    labels: list[list[int]] = [[] for _ in range(num_atoms)]
    for atom, word in zip(atoms[chosen].tolist(), words[chosen].tolist(), strict=True):
        labels[atom].append(word)
    return labels


def log_odds_scores(counts: np.ndarray, sizes: np.ndarray, totals: np.ndarray, total_size: float) -> np.ndarray:
    """Return log-odds of counts in a part against those in the whole, over their standard error.

    Args:
        counts: of each word in its part.
        sizes: of the parts.
        totals: of each word in the whole.
        total_size: of the whole.
    """
    prior = PRIOR_WORDS * totals / total_size
    own = np.log((counts + prior) / (sizes + PRIOR_WORDS - counts - prior))
    whole = np.log((totals + prior) / (total_size + PRIOR_WORDS - totals - prior))
    return (own - whole) / np.sqrt(1 / (counts + prior) + 1 / (totals + prior))
