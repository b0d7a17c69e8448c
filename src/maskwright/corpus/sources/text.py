"""Plain text, also compressed: a file is a document, or its paragraphs or lines are."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from maskwright.core.errors import CorpusError
from maskwright.corpus.open_files import BLOCK_BYTES, identity_of_file, opened, text_bytes_estimate
from maskwright.corpus.sources.base import PIECE_CHARACTERS, Piece, Source, cut_position

LARGE_FILE_CHARACTERS = 1 << 20
"""With `documents: auto`, a longer file is several documents."""

STRETCH_CHARACTERS = 1 << 16
"""About how long those are: long enough for any context, short enough to hold one out."""

BLANK_LINE = re.compile(r"\n[ \t]*\n\s*")


class Text(Source):
    """A text file in UTF-8. Lines end with "\\n" or "\\r\\n" and nothing else."""

    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".txt.gz", ".txt.xz", ".txt.zst")

    def pieces(self) -> Iterator[Piece]:
        """Yield the documents as `config.documents` says."""
        with opened(Path(self.name)) as stream:
            blocks = self.decoded_blocks(stream)
            match self.config.documents:
                case "line":
                    yield from self.split_documents(blocks, re.compile(r"\n"))
                case "paragraph":
                    yield from self.split_documents(blocks, BLANK_LINE)
                case "file":
                    yield from self.one_document(blocks)
                case "auto":
                    yield from self.stretches(blocks)

    def num_text_bytes(self) -> int:
        """Return the file's size, times about what its compression saves."""
        return text_bytes_estimate(Path(self.name))

    def identity(self) -> dict[str, Any]:
        """Return path, size and time of change."""
        return identity_of_file(Path(self.name))

    def decoded_blocks(self, stream: BinaryIO) -> Iterator[str]:
        """Yield the text in blocks of about a megabyte, never splitting a character or "\\r\\n"."""
        tail, position, is_first = b"", 0, True
        while read := stream.read(BLOCK_BYTES):
            block = tail + read
            if is_first:
                block = self.without_mark(block)
                is_first = False
            cut = len(block) - length_of_incomplete_end(block)
            yield self.decode(block[:cut], position).replace("\r\n", "\n")
            position, tail = position + cut, block[cut:]
        if tail:
            yield self.decode(tail, position)

    def without_mark(self, block: bytes) -> bytes:
        """Take off a byte-order mark; refuse what is not UTF-8 text by its beginning."""
        if block.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise CorpusError(f"{self.name} is UTF-16 text", "UTF-8", f"iconv -f UTF-16 -t UTF-8 {self.name} > new.txt")
        if b"\0" in block:
            raise CorpusError(
                f"{self.name} is a binary file: byte {block.index(0)} is zero", "text in UTF-8", "leave it out"
            )
        block = block.removeprefix(b"\xef\xbb\xbf")
        invalid = block.decode("utf-8", "replace").count("\ufffd")
        if invalid > 0.2 * len(block) and invalid > 8:
            raise CorpusError(
                f"{self.name}: {invalid:,} of its first {len(block):,} bytes are not UTF-8",
                "text in UTF-8",
                f"leave it out, or convert it: iconv -f LATIN1 -t UTF-8 {self.name} > new.txt",
            )
        return block

    def decode(self, block: bytes, position: int) -> str:
        """Decode; replace and count what is invalid, or refuse it if `strict`."""
        try:
            return block.decode()
        except UnicodeDecodeError as error:
            byte = position + error.start
            if self.config.strict:
                raise CorpusError(
                    f"{self.name}: byte {byte:,} (0x{block[error.start]:02x}) is not valid UTF-8",
                    "valid UTF-8, because of `strict`",
                    "mend the file, or leave `strict` out: then such bytes are replaced and counted",
                ) from error
            text = block.decode("utf-8", "replace")
            self.dropped["invalid UTF-8"] += text.count("\ufffd") - block.count(b"\xef\xbf\xbd")
            return text

    def one_document(self, blocks: Iterator[str]) -> Iterator[Piece]:
        """Yield the file as one document."""
        rest = ""
        for block in blocks:
            rest += block
            if len(rest) > PIECE_CHARACTERS:
                cut = cut_position(rest, len(rest) // 2)
                yield Piece(rest[:cut], self.name, is_last=False)
                rest = rest[cut:]
        yield Piece(rest, self.name)

    def split_documents(self, blocks: Iterator[str], separator: re.Pattern[str]) -> Iterator[Piece]:
        """Yield a document for every stretch between separators."""
        rest, line = "", 1
        for block in blocks:
            rest += block
            start = 0
            # A separator that touches the end may go on in the next block.
            for match in separator.finditer(rest):
                if match.end() == len(rest) and separator is BLANK_LINE:
                    break
                yield Piece(rest[start : match.start()], f"{self.name}:{line}")
                line += rest.count("\n", start, match.end())
                start = match.end()
            rest = rest[start:]
            if len(rest) > PIECE_CHARACTERS:
                cut = cut_position(rest, len(rest) // 2)
                yield Piece(rest[:cut], f"{self.name}:{line}", is_last=False)
                line += rest.count("\n", 0, cut)
                rest = rest[cut:]
        yield Piece(rest, f"{self.name}:{line}")

    def stretches(self, blocks: Iterator[str]) -> Iterator[Piece]:
        """Yield a small file as one document, a large one in stretches."""
        rest, line, is_large = "", 1, False
        for block in blocks:
            rest += block
            is_large = is_large or len(rest) > LARGE_FILE_CHARACTERS
            start = 0
            while is_large and len(rest) - start > 2 * STRETCH_CHARACTERS:
                end = end_of_stretch(rest, start)
                yield Piece(rest[start:end], f"{self.name}:{line}")
                line += rest.count("\n", start, end)
                start = end
            rest = rest[start:]
        yield Piece(rest, f"{self.name}:{line}")


def length_of_incomplete_end(block: bytes) -> int:
    """Return how many bytes at the end begin a character or a line end that the next block completes (0 to 3)."""
    if block.endswith(b"\r"):
        return 1
    for length in range(1, min(4, len(block) + 1)):
        byte = block[-length]
        if byte & 0xC0 != 0x80:
            num_bytes = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
            return length if num_bytes > length else 0
    return 0


def end_of_stretch(text: str, start: int) -> int:
    """Return where a stretch ends: at a blank line, a line end or white space within twice its length, or bluntly."""
    begin, end = start + STRETCH_CHARACTERS, start + 2 * STRETCH_CHARACTERS
    if match := BLANK_LINE.search(text, begin, end):
        return match.end()
    line_end = text.find("\n", begin, end)
    return line_end + 1 if line_end >= 0 else cut_position(text, begin)
