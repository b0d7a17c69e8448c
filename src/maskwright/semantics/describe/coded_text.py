"""Text with the sparse code of every token: what descriptions of atoms and profiles of words are made of.

N is the number of tokens of the text (no specials), E the number of entries that are not zero, P the number of words,
A the number of atoms.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
import torch
from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerFast

from maskwright.batching.segments import Segments
from maskwright.core.batches import WORD, PackedBatch
from maskwright.core.log import progress
from maskwright.core.ranges import expand_ranges
from maskwright.core.records.semantics import Context
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import Corpus
from maskwright.models.teacher import Teacher
from maskwright.semantics.sparse_coding.codes import CodingReport, SparseCoder, SparseCodes

LONGEST_WORD = 16
"""Tokens of a word. What goes on longer is no word (scripts without spaces): there each token stands alone."""

CONTEXT_WORDS = 9
"""Words shown on each side of a word."""

UNWRITTEN_SPACES = (
    re.compile(r" (?=[.,;:!?%)\]}’”]|'(?:\W|s|t|m|re|ve|ll|d)?(?:\W|$))|(?<=\w) (?=- \w)"),
    re.compile(r"(?<=[(\[{‘“]) |(?<=\w[’'-]) (?=\w)"),
)
"""White space that people don't write around punctuation. WordPiece keeps no white space: its decoder puts words and
marks each on its own, and what is shown is read better without; which ' opens a quotation can't be decided."""

CODES_AT_ONCE = 1 << 25
"""Numbers in a dense block of codes (128 MiB in float32)."""


@dataclass(frozen=True)
class CodedText:
    """Tokens in sequences, and the codes of those that are text.

    Attributes:
        token_ids: int64 [N].
        sequence_ids: int64 [N], ascending: which tokens the teacher saw together.
        begins_word: bool [N].
        is_coded: bool [N]; unknown tokens have no code.
        codes: float32 [N, A], sparse; rows that are not coded are empty.
        report: how good the codes are, of the coded tokens.
    """

    token_ids: np.ndarray
    sequence_ids: np.ndarray
    begins_word: np.ndarray
    is_coded: np.ndarray
    codes: scipy.sparse.csr_array
    report: CodingReport

    @property
    def num_atoms(self) -> int:
        """A."""
        return int(self.codes.sum(axis=0).size)

    @cached_property
    def word_starts(self) -> np.ndarray:
        """The first token of every word, and N at the end; int64 [P + 1]."""
        positions = np.append(np.flatnonzero(self.begins_word), len(self.token_ids))
        is_long = np.diff(positions) > LONGEST_WORD
        if not is_long.any():
            return positions
        apart = expand_ranges(positions[:-1][is_long], np.diff(positions)[is_long])
        return np.union1d(positions, apart)

    @cached_property
    def word_of_token(self) -> np.ndarray:
        """The word of every token; int64 [N]."""
        return np.repeat(np.arange(len(self.word_starts) - 1), np.diff(self.word_starts))

    @cached_property
    def word_codes(self) -> scipy.sparse.csr_array:
        """Each word's mean code, scaled to sum to 1 if it is not zero; float32 [P, A], sparse."""
        num_words = len(self.word_starts) - 1
        members = scipy.sparse.csr_array(
            (np.ones(len(self.token_ids), np.float32), np.arange(len(self.token_ids)), self.word_starts),
            shape=(num_words, len(self.token_ids)),
        )
        sums = members @ self.codes
        totals = np.asarray(sums.sum(axis=1)).ravel()
        scale = scipy.sparse.diags_array(np.divide(1, totals, out=np.zeros_like(totals), where=totals > 0))
        return scipy.sparse.csr_array(scale @ sums)

    def codes_of_word(self, word: int) -> scipy.sparse.csr_array:
        """Return the codes of a word's tokens, [tokens, A]."""
        return scipy.sparse.csr_array(self.codes[self.word_starts[word] : self.word_starts[word + 1]])

    def spellings(
        self, tokenizer: PreTrainedTokenizerFast, is_case_ignored: bool = True
    ) -> tuple[list[str], np.ndarray]:
        """Return the different words as text, and the number in that list of each word, int64 [P].

        Punctuation around a word does not make another word of it, nor does case, unless asked for.
        """
        lengths = np.diff(self.word_starts)
        padded = np.full((len(lengths), LONGEST_WORD), -1)
        padded[self.word_of_token, expand_ranges(np.zeros_like(lengths), lengths)] = self.token_ids
        different, number = np.unique(padded, axis=0, return_inverse=True)
        texts = decoded(tokenizer, [row[row >= 0].tolist() for row in different])
        texts = [plain_word(text.casefold() if is_case_ignored else text) for text in texts]
        ids = {text: index for index, text in enumerate(dict.fromkeys(texts))}
        return list(ids), np.array([ids[text] for text in texts], np.int64)[number.ravel()]

    def contexts(self, words: np.ndarray, tokenizer: PreTrainedTokenizerFast) -> list[Context]:
        """Return words with what stands around them in their sequence."""
        positions = self.word_starts
        sequence_of_word = self.sequence_ids[positions[:-1]]
        first = np.searchsorted(sequence_of_word, sequence_of_word[words], side="left")
        last = np.searchsorted(sequence_of_word, sequence_of_word[words], side="right")
        begins = positions[np.maximum(first, words - CONTEXT_WORDS)]
        ends = positions[np.minimum(last, words + CONTEXT_WORDS + 1)]
        parts = [
            self.token_ids[begin:end].tolist()
            for begin, word_begin, word_end, full_end in zip(
                begins, positions[words], positions[words + 1], ends, strict=True
            )
            for end in (word_begin, word_end, full_end)
        ]
        texts = decoded(tokenizer, parts)
        found = [split_up(*texts[index : index + 3]) for index in range(0, len(texts), 3)]
        is_spaced = isinstance(tokenizer.backend_tokenizer.model, WordPiece)
        return [as_written(context) for context in found] if is_spaced else found


def split_up(left: str, left_and_word: str, whole: str) -> Context:
    """Cut a text where its beginnings end; a decoder that joins tokens differently at an end loses no character."""
    after_word = left_and_word if whole.startswith(left_and_word) else _common_beginning(whole, left_and_word)
    before_word = left if after_word.startswith(left) else _common_beginning(after_word, left)
    word = after_word[len(before_word) :]
    stripped = word.lstrip()
    before_word += word[: len(word) - len(stripped)]
    return Context(left=before_word, word=stripped, right=whole[len(after_word) :])


def as_written(context: Context) -> Context:
    """Return a context without `UNWRITTEN_SPACES`; its word stays."""
    text = context.left + context.word + context.right
    positions = list(range(len(text)))
    for pattern in UNWRITTEN_SPACES:
        unwritten = {found.start() for found in pattern.finditer(text)}
        positions = [index for number, index in enumerate(positions) if number not in unwritten]
        text = "".join(character for number, character in enumerate(text) if number not in unwritten)
    begin = bisect_left(positions, len(context.left))
    end = bisect_left(positions, len(context.left) + len(context.word))
    return Context(left=text[:begin], word=text[begin:end], right=text[end:])


def _common_beginning(text: str, other: str) -> str:
    length = next((index for index, pair in enumerate(zip(text, other, strict=False)) if pair[0] != pair[1]), None)
    return text[: min(len(text), len(other)) if length is None else length]


def plain_word(text: str) -> str:
    """Return a word as it is counted: without punctuation around it, unless it is nothing else."""
    text = text.strip()
    begin, end = 0, len(text)
    while begin < end and not text[begin].isalnum():
        begin += 1
    while end > begin and not text[end - 1].isalnum():
        end -= 1
    return text[begin:end] or text


def decoded(tokenizer: PreTrainedTokenizerFast, token_ids: Sequence[list[int]]) -> list[str]:
    """Return the texts of many runs of tokens."""
    return tokenizer.backend_tokenizer.decode_batch(list(token_ids), skip_special_tokens=False)


def coded_sample(
    corpus: Corpus,
    split: str,
    teacher: Teacher,
    coder: SparseCoder,
    num_tokens: int,
    sequence_length: int,
    micro_batch_tokens: int,
    generator: np.random.Generator,
) -> CodedText:
    """Code segments drawn uniformly from a split.

    Args:
        corpus, split: the text.
        teacher: whose states are coded.
        coder: over the teacher's dictionary, on its device.
        num_tokens: about how much; all of the split, if it has fewer.
        sequence_length: tokens in a row.
        micro_batch_tokens: tokens that may pass through the teacher at once.
        generator: draws the segments.
    """
    tokens = corpus.split(split)
    segments = Segments.of(tokens.document_lengths, sequence_length).sample(num_tokens, generator)
    batches = segments.batches(tokens, corpus.vocabulary, sequence_length, micro_batch_tokens)
    parts = []
    with progress(f"coding {split.replace('_', '-')} text (tokens)", segments.num_tokens) as advance:
        for batch in batches:
            parts.append(coded_batch(batch, teacher, coder, corpus.vocabulary))
            advance(len(parts[-1].token_ids))
    return joined(parts)


def coded_batch(batch: PackedBatch, teacher: Teacher, coder: SparseCoder, vocabulary: Vocabulary) -> CodedText:
    """Code the text of a packed batch."""
    is_special_V = torch.zeros(vocabulary.size, dtype=torch.bool)
    is_special_V[list(vocabulary.special_ids)] = True
    frames = torch.tensor([vocabulary.cls_id, vocabulary.sep_id, vocabulary.pad_id])
    positions = (~torch.isin(batch.token_ids_T, frames)).nonzero().squeeze(1)
    token_ids = batch.token_ids_T[positions]
    is_coded = ~is_special_V[token_ids]
    num_atoms = len(coder.atoms_AD)
    # At least one block, so that text without a coded token has a report, too.
    states_MD = teacher.states(batch, positions[is_coded])
    coded = [coder.encode(part) for part in states_MD.split(max(1, CODES_AT_ONCE // num_atoms))]
    sparse = [SparseCodes.from_dense(codes) for codes, _ in coded]
    counts = np.zeros(len(token_ids), np.int64)
    counts[is_coded.numpy()] = torch.cat([part.offsets.diff() for part in sparse]).cpu().numpy()
    codes = scipy.sparse.csr_array(
        (
            torch.cat([part.weights for part in sparse]).float().cpu().numpy(),
            torch.cat([part.atom_ids for part in sparse]).cpu().numpy(),
            np.concatenate([[0], np.cumsum(counts)]),
        ),
        shape=(len(token_ids), num_atoms),
    )
    return CodedText(
        token_ids=token_ids.numpy(),
        sequence_ids=batch.layout.sequence_index_T[positions].numpy().astype(np.int64),
        begins_word=batch.marks[WORD][positions].numpy(),
        is_coded=is_coded.numpy(),
        codes=codes,
        report=_joined_reports([report.to("cpu") for _, report in coded]),
    )


def joined(parts: Sequence[CodedText]) -> CodedText:
    """Return several texts as one."""
    first_sequences = np.cumsum([0, *(part.sequence_ids.max(initial=-1) + 1 for part in parts)])
    sequences = [part.sequence_ids + first for part, first in zip(parts, first_sequences, strict=False)]
    return CodedText(
        token_ids=np.concatenate([part.token_ids for part in parts]),
        sequence_ids=np.concatenate(sequences),
        begins_word=np.concatenate([part.begins_word for part in parts]),
        is_coded=np.concatenate([part.is_coded for part in parts]),
        codes=scipy.sparse.csr_array(scipy.sparse.vstack([part.codes for part in parts], format="csr")),
        report=_joined_reports([part.report for part in parts]),
    )


def _joined_reports(reports: Sequence[CodingReport]) -> CodingReport:
    return CodingReport(
        relative_gap_M=torch.cat([report.relative_gap_M for report in reports]),
        kkt_violation_M=torch.cat([report.kkt_violation_M for report in reports]),
        objective_M=torch.cat([report.objective_M for report in reports]),
        nonzeros_M=torch.cat([report.nonzeros_M for report in reports]),
        num_iterations=max(report.num_iterations for report in reports),
        largest_eigenvalue=reports[0].largest_eigenvalue,
    )
