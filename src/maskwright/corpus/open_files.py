"""Open text files of every kind: plain or compressed, with errors that name the file and line."""

import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from maskwright.core.errors import CorpusError, MissingDependency
from maskwright.core.optional import load_optional

BLOCK_BYTES = 1 << 20

EXPANSION = {".gz": 3, ".xz": 4, ".zst": 3}
"""About how many bytes of text a byte of a compressed file holds."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading bytes, decompressed by its suffix (.gz, .xz, .zst).

    Raises:
        CorpusError: the file is gone, unreadable, truncated or damaged; also where the block reads it.
        MissingDependency: .zst without the zstandard library.
    """
    try:
        with path.open("rb") as raw, decompressed(raw, path) as stream:
            yield stream
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise CorpusError(
            f"{path}: {error}", f"a whole {path.suffix} file", "copy or download it again; nothing was written"
        ) from error
    except OSError as error:
        raise CorpusError(
            f"{path} could not be read: {error.strerror or error}", "a file that this user may read"
        ) from error


def decompressed(raw: BinaryIO, path: Path) -> contextlib.AbstractContextManager[BinaryIO]:
    """Return a stream of the file's content."""
    match path.suffix:
        case ".gz":
            return gzip.GzipFile(fileobj=raw)  # pyright: ignore[reportReturnType]
        case ".xz":
            return lzma.LZMAFile(raw)  # pyright: ignore[reportReturnType]
        case ".zst":
            return io.BufferedReader(ZstandardFile(raw), BLOCK_BYTES)  # pyright: ignore[reportReturnType]
        case _:
            return contextlib.nullcontext(raw)


class ZstandardFile(io.RawIOBase):
    """A .zst file, frame after frame; unlike zstandard's own reader it notices that the end is missing."""

    def __init__(self, raw: BinaryIO) -> None:
        """Begin to read `raw`."""
        try:
            zstandard = load_optional("zstandard")
        except ImportError as error:
            raise MissingDependency(
                "zstandard is not installed", "it, to read .zst", 'pip install "maskwright[parquet]"'
            ) from error
        self._raw, self._new_frame, self._error = raw, zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError
        self._frame: Any = None
        self._pending, self._compressed = b"", b""

    def readable(self) -> bool:
        """Return true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with the next decompressed bytes; 0 at the end."""
        while not self._pending:
            self._compressed = self._compressed or self._raw.read(1 << 16)
            if not self._compressed:
                if self._frame is not None:
                    raise EOFError("the compressed file ends before its end-of-stream marker")
                return 0
            self._frame = self._frame or self._new_frame()
            try:
                self._pending = self._frame.decompress(self._compressed)
            except self._error as error:
                raise EOFError(f"damaged: {error}") from error
            self._compressed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        count = min(len(buffer), len(self._pending))
        buffer[:count], self._pending = self._pending[:count], self._pending[count:]
        return count


def text_bytes_estimate(path: Path) -> int:
    """Return about how many bytes of text a file holds, by its size and kind."""
    return path.stat().st_size * EXPANSION.get(path.suffix, 1)


def identity_of_file(path: Path) -> dict[str, Any]:
    """Return the path, size and time of change of a file."""
    status = path.stat()
    return {"path": str(path.absolute()), "num_bytes": status.st_size, "changed_ns": status.st_mtime_ns}
