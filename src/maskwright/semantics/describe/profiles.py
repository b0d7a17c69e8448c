"""The latent semantic profile of a word in context: which atoms its code is made of.

The code of a word of several tokens is the mean of their codes; scaled to sum to 1 it is the word's profile.
"""

import re
import unicodedata
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from transformers import PreTrainedTokenizerFast

from maskwright.batching.pack import pack_sequences
from maskwright.batching.row_plan import NUM_SPECIALS
from maskwright.core.errors import RecipeError
from maskwright.core.records.semantics import AtomWeight, Context, Profile
from maskwright.models.teacher import Teacher
from maskwright.semantics.describe.coded_text import coded_batch
from maskwright.semantics.dictionary import Dictionary
from maskwright.semantics.sparse_coding.codes import SparseCoder

EXAMPLE = 'for example "The bank raised its [rates] again."'


@dataclass(frozen=True)
class MarkedWord:
    """A word in brackets: the text without them, and where the word is.

    Attributes:
        text: without brackets.
        begin, end: characters of the word in it.
    """

    text: str
    begin: int
    end: int

    @property
    def context(self) -> Context:
        """The word where it stands."""
        return Context(left=self.text[: self.begin], word=self.text[self.begin : self.end], right=self.text[self.end :])


@dataclass(frozen=True)
class TokenizedWord:
    """The tokens of a marked word's text, without specials.

    Attributes:
        token_ids: int64 [n].
        positions: int64, those of the word.
    """

    token_ids: np.ndarray
    positions: np.ndarray


def marked_words(text: str) -> list[MarkedWord]:
    """Return the words that a text has in brackets, from left to right.

    Raises:
        RecipeError: there is none, one is empty, or brackets don't pair.
    """
    text = unicodedata.normalize("NFC", text)
    pieces = re.split(r"\[([^\[\]]*)\]", text)
    if any("[" in piece or "]" in piece for piece in pieces[::2]):
        raise RecipeError(f"the brackets of {text!r:.80} don't pair", "one pair around each word", EXAMPLE)
    if len(pieces) == 1:
        raise RecipeError(f"no word of {text!r:.80} is in brackets", "one or more [words]", EXAMPLE)
    if any(not piece.strip() for piece in pieces[1::2]):
        raise RecipeError(f"there is no word in the brackets of {text!r:.80}", "a word in each pair", EXAMPLE)
    if any(piece.upper() in ("MASK", "<MASK>") for piece in pieces[1::2]):
        raise RecipeError(
            "[MASK] has no profile: profiles are of clean text",
            "the word itself in brackets; what a model would put there is shown next to its profile",
            EXAMPLE,
        )
    begins = np.cumsum([0, *map(len, pieces)])
    whole = "".join(pieces)
    return [MarkedWord(whole, int(begins[index]), int(begins[index + 1])) for index in range(1, len(pieces), 2)]


def tokens_of(word: MarkedWord, tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> TokenizedWord:
    """Tokenize a marked word's text and find its tokens.

    Raises:
        RecipeError: the text is longer than the model takes, or the word has no tokens.
    """
    encoding = tokenizer(word.text, add_special_tokens=False, return_offsets_mapping=True)
    token_ids = np.array(encoding["input_ids"], np.int64)
    if len(token_ids) > max_tokens:
        raise RecipeError(
            f"{word.text!r:.60} has {len(token_ids):,} tokens",
            f"at most {max_tokens:,}, the length the model was built for",
            "shorten the text around the word",
        )
    offsets = np.array(encoding["offset_mapping"], np.int64).reshape(-1, 2)
    positions = np.flatnonzero((offsets[:, 0] < word.end) & (offsets[:, 1] > word.begin))
    if not len(positions):
        raise RecipeError(f"the tokenizer finds nothing in [{word.context.word}]", "a word of letters", EXAMPLE)
    return TokenizedWord(token_ids, positions)


def profile_of(codes: scipy.sparse.csr_array, context: Context, num_atoms: int) -> Profile:
    """Return the profile of the tokens whose codes are given, [tokens, A].

    The numbers of its atoms sum to 1 over all of them; of an all-zero code there are none.
    """
    sums_A = np.asarray(codes.sum(axis=0, dtype=np.float64)).ravel()
    return profile_of_weights(sums_A, context, num_atoms)


def profile_of_weights(weights_A: np.ndarray, context: Context, num_atoms: int) -> Profile:
    """Return the strongest atoms of non-negative weights, float64 [A], as shares of their sum."""
    used = np.flatnonzero(weights_A > 0)
    strongest = used[np.lexsort((used, -weights_A[used]))][:num_atoms]
    total = float(weights_A.sum())
    atoms = [AtomWeight(atom=int(atom), weight=float(weights_A[atom] / total)) for atom in strongest]
    return Profile(context=context, atoms=atoms, num_atoms=len(used))


class Profiler:
    """Makes profiles of words: a teacher, a dictionary of its states and its tokenizer."""

    def __init__(self, teacher: Teacher, dictionary: Dictionary, tokenizer: PreTrainedTokenizerFast) -> None:
        """Keep them.

        Raises:
            CheckpointError: the dictionary has another width than the teacher.
        """
        dictionary.require_width(teacher.width, teacher.name)
        self._teacher, self._tokenizer = teacher, tokenizer
        self._coder = SparseCoder(dictionary.atoms_AD.to(teacher.device), dictionary.provenance.penalty)
        self.max_tokens = teacher.encoder.config.max_positions - NUM_SPECIALS

    def tokens_of(self, word: MarkedWord) -> TokenizedWord:
        """See `tokens_of`."""
        return tokens_of(word, self._tokenizer, self.max_tokens)

    def profile(self, word: MarkedWord, num_atoms: int) -> Profile:
        """Return the profile of a word in context.

        Args:
            word: see `marked_words`.
            num_atoms: strongest atoms to keep.

        Raises:
            RecipeError: the text can't be used, see `tokens_of`; or the word's code is zero.
        """
        tokens = self.tokens_of(word)
        vocabulary = self._teacher.vocabulary
        batch = pack_sequences([tokens.token_ids], vocabulary, len(tokens.token_ids) + NUM_SPECIALS)
        # A token that the tokenizer does not know stays in its index in the coded text, without a code.
        codes = coded_batch(batch, self._teacher, self._coder, vocabulary).codes
        found = profile_of(scipy.sparse.csr_array(codes[tokens.positions]), word.context, num_atoms)
        if not found.atoms:
            raise RecipeError(
                f"the code of [{word.context.word}] is zero: the teacher has no state for it, or lambda is too large",
                "a word that the tokenizer knows, and a dictionary learned with a smaller lambda",
            )
        return found
