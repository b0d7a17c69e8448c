"""A prepared corpus: opened, checked, and its tokens gathered."""

import io
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from maskwright.core.errors import CheckpointError, CorpusError
from maskwright.core.files import sha256_of_file
from maskwright.core.integrity import SUMS, sums_problems
from maskwright.core.ranges import expand_ranges
from maskwright.core.records.corpus import CorpusManifest, SplitRecord
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.marks import MarkedTokens
from maskwright.corpus.shards import PREPARE_AGAIN, Shard, ShardFormat, check_checksums
from maskwright.corpus.shared_runs import read_shared_runs
from maskwright.tokenization.folder import load_tokenizer
from maskwright.tokenization.special_tokens import vocabulary_of

MANIFEST, COUNTS, TOKENIZER = "manifest.json", "unigram_counts.npy", "tokenizer"


class TokenSplit:
    """The documents of one split, over all its shards.

    Attributes:
        num_documents: number of documents; their ids count from 0 in the order they were read.
        document_lengths: int64 [documents], in tokens, without special ones; each at least 1.
        first_tokens: int64 [documents + 1], the number of each document's first token, counted over the whole split;
            then how many there are.
        marks: names of the marks of its tokens; the first token of a document begins each of these units.
        files: names of the sources that the documents are from.
        documents_of_files: how many documents are of each, in order; empty if that was not noted.
        is_shared: bool [tokens], counted as in `first_tokens`, of the held-out split: whether a token stands in a run
            that the training split has too (`corpus/shared_runs.py`); None where nobody looked.
    """

    def __init__(self, folder: Path, record: SplitRecord, form: ShardFormat, files: Sequence[str] = ()) -> None:
        """Map every shard of the split."""
        self.is_shared: np.ndarray | None = None
        self.marks, self.files, self.documents_of_files = form.marks, tuple(files), tuple(record.documents_of_files)
        self._shards = [Shard(folder, shard, form) for shard in record.shards]
        self.num_documents = sum(len(shard.document_offsets) - 1 for shard in self._shards)
        self.document_lengths = np.concatenate(
            [np.zeros(0, np.int64), *(np.diff(shard.document_offsets) for shard in self._shards)]
        )
        self.first_tokens = np.concatenate([[0], np.cumsum(self.document_lengths)])
        starts = [np.zeros(0, np.int64), *(shard.document_offsets[:-1] for shard in self._shards)]
        self._document_starts = np.concatenate(starts)
        self._first_documents = np.cumsum([0, *(len(shard.document_offsets) - 1 for shard in self._shards)])

    def gather_tokens(self, document_ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> MarkedTokens:
        """Return the tokens of pieces of documents, one piece after the other; ids are int64.

        Args:
            document_ids: int [pieces].
            starts: int [pieces], where in its document each piece begins, in tokens.
            lengths: int [pieces], how many tokens; within the document.
        """
        lengths = np.asarray(lengths, np.int64)
        total = int(lengths.sum())
        piece_ends = np.cumsum(lengths)
        token_ids, marks = np.empty(total, np.int64), {mark: np.empty(total, bool) for mark in self.marks}
        shard_of_piece = np.searchsorted(self._first_documents, document_ids, side="right") - 1
        begins = self._document_starts[document_ids] + starts
        for index in np.unique(shard_of_piece):
            shard, chosen = self._shards[index], shard_of_piece == index
            positions = expand_ranges(begins[chosen], lengths[chosen])
            targets = expand_ranges((piece_ends - lengths)[chosen], lengths[chosen])
            token_ids[targets] = shard.tokens[positions]
            for mark, packed in shard.packed_marks.items():
                marks[mark][targets] = (packed[positions >> 3] >> (positions & 7).astype(np.uint8)) & 1
        return MarkedTokens(token_ids, marks)

    def blocks(self, num_tokens: int) -> Iterator[tuple[np.ndarray, MarkedTokens]]:
        """Yield all documents in runs of about so many tokens: their ids, int, and their tokens one after the other."""
        first = 0
        while first < self.num_documents:
            full = self.first_tokens[first] + num_tokens
            last = max(first + 1, int(np.searchsorted(self.first_tokens, full, side="right")) - 1)
            documents = np.arange(first, last)
            yield documents, self.gather_tokens(documents, np.zeros_like(documents), self.document_lengths[first:last])
            first = last


class Corpus:
    """A prepared corpus.

    Attributes:
        folder: where it lies.
        manifest: what it is.
        vocabulary: of its tokenizer.
    """

    def __init__(self, folder: Path, manifest: CorpusManifest, vocabulary: Vocabulary) -> None:
        """Use `open_corpus`."""
        self.folder, self.manifest, self.vocabulary = folder, manifest, vocabulary
        self._form = ShardFormat(vocabulary.size, vocabulary.sha256, tuple(manifest.marks))
        self._splits = {
            name: TokenSplit(folder, record, self._form, manifest.files) for name, record in manifest.splits.items()
        }
        if manifest.shared_runs is not None:
            held_out = self._splits["held_out"]
            held_out.is_shared = read_shared_runs(folder, manifest.shared_runs, int(held_out.first_tokens[-1]))

    def split(self, name: str) -> TokenSplit:
        """Return "train" or "held_out"."""
        return self._splits[name]

    @cached_property
    def unigram_counts_V(self) -> np.ndarray:
        """How often each token occurs in the train split, int64 [V]."""
        content = (self.folder / COUNTS).read_bytes()
        return np.load(io.BytesIO(content), allow_pickle=False)

    def load_tokenizer(self) -> PreTrainedTokenizerFast:
        """Load the tokenizer that made the tokens."""
        return load_tokenizer(self.folder / TOKENIZER)


def open_corpus(folder: Path, verify: bool) -> Corpus:
    """Open a prepared corpus.

    Args:
        folder: what `prepare` wrote.
        verify: also read every file whole and compare checksums (about a second a gigabyte).

    Raises:
        CorpusError: it is not a corpus, or a file is missing, truncated, altered or of another tokenizer.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise CorpusError(f"{folder} is not a prepared corpus", f"a folder with a {MANIFEST}", "maskwright prepare")
    manifest = read_manifest(folder)
    sums, expected = folder / TOKENIZER / SUMS, manifest.tokenizer_sums_sha256
    if expected is not None and not (sums.is_file() and sha256_of_file(sums) == expected):
        raise CorpusError(f"{sums} is missing or was altered", "the file as it was prepared", PREPARE_AGAIN)
    for path, problem in sums_problems(folder / TOKENIZER).items():
        raise CorpusError(f"{path}: {problem}", "the file as it was prepared", PREPARE_AGAIN)
    vocabulary = vocabulary_of(load_tokenizer(folder / TOKENIZER))
    if vocabulary.sha256 != manifest.tokenizer_sha256:
        raise CorpusError(
            f"{folder / TOKENIZER} is another tokenizer than the one the shards were made with",
            f"the tokenizer with the checksum {manifest.tokenizer_sha256[:16]}...",
            PREPARE_AGAIN,
        )
    corpus = Corpus(folder, manifest, vocabulary)
    check_counts(corpus, verify)
    if verify:
        for split in manifest.splits.values():
            for shard in split.shards:
                check_checksums(folder, shard)
    return corpus


def read_manifest(folder: Path) -> CorpusManifest:
    """Read the manifest of a corpus.

    Raises:
        CorpusError: it is damaged or of another version.
    """
    try:
        return CorpusManifest.read(folder / MANIFEST)
    except CheckpointError as error:
        raise CorpusError(error.got, error.expected, PREPARE_AGAIN) from error


def check_counts(corpus: Corpus, verify: bool) -> None:
    """Raise a `CorpusError` if the unigram counts are missing or not those of the manifest."""
    path = corpus.folder / COUNTS
    if not path.is_file() or (verify and sha256_of_file(path) != corpus.manifest.sha256_of_counts):
        raise CorpusError(f"{path} is missing or was altered", "the file as it was prepared", PREPARE_AGAIN)
