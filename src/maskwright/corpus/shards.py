"""The files that hold a corpus's tokens: written once in one pass, then memory-mapped.

A shard `train-00000` is three files or more, each a header of 72 bytes and then values, everything little-endian:

| file | values |
|---|---|
| `train-00000.tokens` | token ids of all documents, one after the other: uint16, or uint32 where ids need it |
| `train-00000.documents` | where each document begins, in tokens, and the end of the last: int64, documents + 1 |
| `train-00000.words` | one bit a token, lowest bit first: whether the token begins a word |
| `train-00000.sentences`, `.paragraphs` | the same for further marks, if the manifest names them |

Header: magic "MWSHARD\\0", uint32 format version, uint32 bits per value, uint64 vocabulary size, uint64 tokens,
uint64 documents, 32 bytes SHA-256 of the tokenizer. Documents hold no special tokens.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from maskwright.core.batches import WORD
from maskwright.core.errors import CorpusError
from maskwright.core.files import sha256_of_file
from maskwright.core.records.corpus import ShardRecord
from maskwright.corpus.marks import MarkedTokens

HEADER = struct.Struct("<8sIIQQQ32s")
MAGIC, FORMAT_VERSION = b"MWSHARD\0", 1
TOKENS, DOCUMENTS = (".tokens", ".documents")
SHARD_BYTES = 256_000_000
"""A new shard begins with the next document when the tokens of the last have grown past this."""

PREPARE_AGAIN = "delete the corpus folder and prepare it again"


@dataclass(frozen=True)
class ShardFormat:
    """What all shards of a corpus share.

    Attributes:
        vocabulary_size: number of token ids.
        tokenizer_sha256: the tokenizer's checksum.
        marks: names of the marks that every token has.
    """

    vocabulary_size: int
    tokenizer_sha256: str
    marks: tuple[str, ...] = (WORD,)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Endings of a shard's files."""
        return TOKENS, DOCUMENTS, *map(mark_file, self.marks)

    @property
    def token_dtype(self) -> np.dtype[Any]:
        """The narrowest type that holds every token id."""
        return np.dtype("<u2" if self.vocabulary_size <= 2**16 else "<u4")

    def header(self, kind: str, num_tokens: int, num_documents: int) -> bytes:
        """Return the header of a file."""
        bits = {TOKENS: 8 * self.token_dtype.itemsize, DOCUMENTS: 64}.get(kind, 1)
        sha256 = bytes.fromhex(self.tokenizer_sha256)
        return HEADER.pack(MAGIC, FORMAT_VERSION, bits, self.vocabulary_size, num_tokens, num_documents, sha256)


def mark_file(mark: str) -> str:
    """Return the ending of the file of a mark, such as ".words"."""
    return f".{mark}s"


class SplitWriter:
    """Writes the shards of one split ("train" or "held_out"), document by document, in flat memory."""

    def __init__(self, folder: Path, split: str, form: ShardFormat, shard_bytes: int = SHARD_BYTES) -> None:
        """Begin with no shard; files appear with the first document."""
        self.folder, self.split, self.form, self.shard_bytes = folder, split, form, shard_bytes
        self.records: list[ShardRecord] = []
        self._shard: ShardWriter | None = None

    def append(self, tokens: MarkedTokens, document_ends: np.ndarray) -> np.ndarray:
        """Append tokens of any number of documents; the first token of each is made to begin all that is marked.

        Args:
            tokens: those of the document that is not yet ended first.
            document_ends: positions in `tokens` where a document ends, ascending; what comes after the last of them
                belongs to a document that the next call goes on with.

        Returns:
            For each end whether the document was written, bool: one without tokens is left out.
        """
        if self._shard is None:
            name = f"{self.split}-{len(self.records):05d}"
            self._shard = ShardWriter(self.folder, name, self.form)
        begins = np.concatenate([[-1 if self._shard.is_inside_document else 0], document_ends])
        has_tokens = np.diff(begins) > 0
        for starts in tokens.marks.values():
            starts[begins[(begins >= 0) & (begins < len(tokens))]] = True
        self._shard.append(tokens, document_ends[has_tokens])
        if not self._shard.is_inside_document and self._shard.num_token_bytes >= self.shard_bytes:
            self._finish_shard()
        return has_tokens

    def abandon_document(self) -> None:
        """Take back what was appended of the document that is not yet ended."""
        if self._shard is not None:
            self._shard.abandon_document()

    def close(self) -> list[ShardRecord]:
        """Finish the last shard and return the records of all."""
        self._finish_shard()
        return self.records

    def discard(self) -> None:
        """Close the files after an error."""
        if self._shard is not None:
            self._shard.close_files()

    def _finish_shard(self) -> None:
        if self._shard is not None:
            if self._shard.num_documents:
                self.records.append(self._shard.finish())
            else:
                self._shard.remove()
            self._shard = None


class ShardWriter:
    """Writes the files of one shard."""

    def __init__(self, folder: Path, name: str, form: ShardFormat) -> None:
        """Create the files, with headers to be filled in at the end."""
        self.folder, self.name, self.form = folder, name, form
        self._files: dict[str, BinaryIO] = {kind: (folder / (name + kind)).open("wb") for kind in form.kinds}
        for file in self._files.values():
            file.write(bytes(HEADER.size))
        self._files[DOCUMENTS].write(np.zeros(1, "<i8").tobytes())
        self.num_tokens = self.num_documents = 0
        # Bits that don't fill a byte yet; as they and the files' ends were when the document began.
        self._bits = {mark: np.zeros(0, bool) for mark in form.marks}
        self._document_start, self._bits_at_start, self._marks_at_start = 0, dict(self._bits), HEADER.size

    @property
    def is_inside_document(self) -> bool:
        """Whether tokens were appended since the last document's end."""
        return self.num_tokens > self._document_start

    @property
    def num_token_bytes(self) -> int:
        """Size of the token file without its header."""
        return self.num_tokens * self.form.token_dtype.itemsize

    def append(self, tokens: MarkedTokens, document_ends: np.ndarray) -> None:
        """See `SplitWriter.append`."""
        if len(document_ends):
            last = int(document_ends[-1])
            self._write(tokens[:last])
            ends = (self.num_tokens - last + document_ends).astype("<i8")
            self._files[DOCUMENTS].write(ends.tobytes())
            self.num_documents += len(ends)
            self._document_start = self.num_tokens
            self._bits_at_start, self._marks_at_start = dict(self._bits), self._files[mark_file(WORD)].tell()
            tokens = tokens[last:]
        self._write(tokens)

    def _write(self, tokens: MarkedTokens) -> None:
        self._files[TOKENS].write(np.ascontiguousarray(tokens.token_ids, self.form.token_dtype).data)
        for mark, before in self._bits.items():
            bits = np.concatenate([before, tokens.marks[mark]])
            num_whole = len(bits) // 8 * 8
            self._files[mark_file(mark)].write(np.packbits(bits[:num_whole], bitorder="little").data)
            self._bits[mark] = bits[num_whole:]
        self.num_tokens += len(tokens)

    def abandon_document(self) -> None:
        """See `SplitWriter.abandon_document`."""
        itemsize = self.form.token_dtype.itemsize
        for kind, end in (
            (TOKENS, HEADER.size + self._document_start * itemsize),
            *((mark_file(mark), self._marks_at_start) for mark in self.form.marks),
        ):
            self._files[kind].seek(end)
            self._files[kind].truncate()
        self.num_tokens, self._bits = self._document_start, dict(self._bits_at_start)

    def finish(self) -> ShardRecord:
        """Write the headers and close the files."""
        for mark, bits in self._bits.items():
            self._files[mark_file(mark)].write(np.packbits(bits, bitorder="little").data)
        for kind, file in self._files.items():
            file.seek(0)
            file.write(self.form.header(kind, self.num_tokens, self.num_documents))
        self.close_files()
        paths = [self.folder / (self.name + kind) for kind in self.form.kinds]
        return ShardRecord(
            name=self.name,
            num_documents=self.num_documents,
            num_tokens=self.num_tokens,
            sha256={path.name: sha256_of_file(path) for path in paths},
            num_bytes={path.name: path.stat().st_size for path in paths},
        )

    def close_files(self) -> None:
        """Close the files as they are."""
        for file in self._files.values():
            file.close()

    def remove(self) -> None:
        """Close and delete the files."""
        self.close_files()
        for kind in self.form.kinds:
            (self.folder / (self.name + kind)).unlink()


class Shard:
    """One shard, memory-mapped.

    Attributes:
        tokens: [tokens], uint16 or uint32.
        document_offsets: int64 [documents + 1].
        packed_marks: uint8 by name, eight tokens each.
    """

    def __init__(self, folder: Path, record: ShardRecord, form: ShardFormat) -> None:
        """Map the files after checking their sizes and headers against the record.

        Raises:
            CorpusError: a file is missing, of another size, or belongs to another tokenizer.
        """
        for kind in form.kinds:
            check_file(folder / (record.name + kind), kind, record, form)

        def mapped(kind: str, dtype: Any) -> np.ndarray:
            return np.memmap(folder / (record.name + kind), dtype, "r", HEADER.size)

        self.tokens = mapped(TOKENS, form.token_dtype)
        self.document_offsets = np.array(mapped(DOCUMENTS, "<i8"), np.int64)
        self.packed_marks = {mark: mapped(mark_file(mark), np.uint8) for mark in form.marks}
        offsets = self.document_offsets
        if offsets[0] != 0 or offsets[-1] != record.num_tokens or (np.diff(offsets) <= 0).any():
            raise CorpusError(
                f"{folder / (record.name + DOCUMENTS)} is damaged: its offsets do not ascend to {record.num_tokens:,}",
                "the file as it was prepared",
                PREPARE_AGAIN,
            )


def check_file(path: Path, kind: str, record: ShardRecord, form: ShardFormat) -> None:
    """Compare a shard's file with what the manifest says of it, by size and header."""
    expected = record.num_bytes[path.name]
    try:
        actual = path.stat().st_size
        with path.open("rb") as stream:
            header = stream.read(HEADER.size)
    except OSError as error:
        raise CorpusError(f"{path} could not be read: {error.strerror}", "a shard", PREPARE_AGAIN) from error
    if actual != expected:
        raise CorpusError(f"{path} has {actual:,} bytes", f"{expected:,}, as it was prepared", PREPARE_AGAIN)
    if header != form.header(kind, record.num_tokens, record.num_documents):
        raise CorpusError(f"{path}: {header_problem(header, form)}", "the header as it was prepared", PREPARE_AGAIN)


def header_problem(header: bytes, form: ShardFormat) -> str:
    """Say in words how a header differs."""
    magic, version, _, vocabulary_size, _, _, sha256 = HEADER.unpack(header)
    if magic != MAGIC:
        return "not a shard of maskwright"
    if version != FORMAT_VERSION:
        return f"format version {version}, this program reads {FORMAT_VERSION}"
    if vocabulary_size != form.vocabulary_size or sha256.hex() != form.tokenizer_sha256:
        return f"made with another tokenizer (of {vocabulary_size:,} tokens, this one has {form.vocabulary_size:,})"
    return "the header was altered"


def check_checksums(folder: Path, record: ShardRecord) -> None:
    """Read a shard's files whole and compare their SHA-256 with the manifest.

    Raises:
        CorpusError: a file was altered.
    """
    for name, expected in record.sha256.items():
        if sha256_of_file(folder / name) != expected:
            raise CorpusError(
                f"{folder / name} was altered: its checksum differs", "the file as it was prepared", PREPARE_AGAIN
            )
