"""JSON lines, also compressed: one object per line, its text in one field."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from maskwright.core.errors import CorpusError, suggest_nearest
from maskwright.corpus.open_files import identity_of_file, opened, text_bytes_estimate
from maskwright.corpus.sources.base import Piece, Source


class Jsonl(Source):
    """A file of JSON objects, a document each."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".jsonl.gz", ".jsonl.xz", ".jsonl.zst")

    def pieces(self) -> Iterator[Piece]:
        """Yield the text of every line."""
        with opened(Path(self.name)) as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    origin = f"{self.name}:{number}"
                    yield Piece(self.text_of(line, origin, number == 1), origin)

    def num_text_bytes(self) -> int:
        """Return the file's size, times about what its compression saves."""
        return text_bytes_estimate(Path(self.name))

    def identity(self) -> dict[str, Any]:
        """Return path, size and time of change."""
        return identity_of_file(Path(self.name))

    def text_of(self, line: bytes, origin: str, is_first: bool) -> str:
        """Return the text in one line."""
        if is_first:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            record = json.loads(self.decoded(line, origin))
        except (json.JSONDecodeError, RecursionError) as error:
            raise CorpusError(
                f"{origin}: not JSON: {error}", 'one JSON object a line, such as {"text": "..."}', "mend that line"
            ) from error
        return text_in_field(record, self.config.text_field, origin)

    def decoded(self, line: bytes, origin: str) -> str:
        """Decode a line; replace and count what is invalid, or refuse it if `strict`."""
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            if self.config.strict:
                raise CorpusError(
                    f"{origin}: byte {error.start:,} of the line (0x{line[error.start]:02x}) is not valid UTF-8",
                    "valid UTF-8, because of `strict`",
                    "mend the file, or leave `strict` out: then such bytes are replaced and counted",
                ) from error
            text = line.decode("utf-8", "replace")
            self.dropped["invalid UTF-8"] += text.count("\ufffd") - line.count(b"\xef\xbf\xbd")
            return text


def text_in_field(record: Any, field: str, origin: str) -> str:
    """Return a record's text; lone surrogates, which are no characters, are replaced.

    Raises:
        CorpusError: the record is no object, lacks the field, or holds something else in it.
    """
    if not isinstance(record, dict):
        raise CorpusError(f"{origin}: a JSON {type(record).__name__}", 'an object, such as {"text": "..."}')
    if field not in record:
        raise CorpusError(
            f"{origin}: no field {field!r}{suggest_nearest(field, record)}",
            f"the text in that field; this one has {', '.join(map(repr, list(record)[:8])) or 'none'}",
            "name the right one with `text_field`",
        )
    text = record[field]
    if not isinstance(text, str):
        raise CorpusError(f"{origin}: field {field!r} holds {type(text).__name__}", "text", "mend that line")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
