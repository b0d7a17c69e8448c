"""Parquet files: one row a document, its text in one column."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from maskwright.core.errors import CorpusError, MissingDependency, suggest_nearest
from maskwright.core.optional import load_optional
from maskwright.corpus.open_files import identity_of_file
from maskwright.corpus.sources.base import Piece, Source

ROWS_AT_ONCE = 64


class Parquet(Source):
    """A Parquet file, read some rows at a time."""

    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)

    def pieces(self) -> Iterator[Piece]:
        """Yield the text of every row."""
        try:
            arrow, parquet = load_optional("pyarrow"), load_optional("pyarrow.parquet")
        except ImportError as error:
            raise MissingDependency(
                f"pyarrow is not installed, {self.name} needs it", "pyarrow", 'pip install "maskwright[parquet]"'
            ) from error
        try:
            with parquet.ParquetFile(self.name) as file:
                self.check_column(file.schema_arrow, arrow)
                row = 0
                for batch in file.iter_batches(ROWS_AT_ONCE, columns=[self.config.text_field]):
                    for text in batch.column(0).to_pylist():
                        yield Piece(text or "", f"{self.name}: row {row}")
                        row += 1
        except (arrow.ArrowException, OSError) as error:
            problem = str(error).strip().splitlines()[0]
            raise CorpusError(
                f"{self.name}: {problem}", "a whole Parquet file", "copy or download it again; nothing was written"
            ) from error

    def check_column(self, schema: Any, arrow: Any) -> None:
        """Raise a `CorpusError` if there is no such column or it holds something else than text."""
        field = self.config.text_field
        if field not in schema.names:
            raise CorpusError(
                f"{self.name}: no column {field!r}{suggest_nearest(field, schema.names)}",
                f"the text in that column; there are {', '.join(map(repr, schema.names[:8]))}",
                "name the right one with `text_field`",
            )
        kind = schema.field(field).type
        if not (arrow.types.is_string(kind) or arrow.types.is_large_string(kind)):
            raise CorpusError(f"{self.name}: column {field!r} holds {kind}", "text (string)")

    def num_text_bytes(self) -> int:
        """Return twice the file's size, about what it holds unpacked."""
        return 2 * Path(self.name).stat().st_size

    def identity(self) -> dict[str, Any]:
        """Return path, size and time of change."""
        return identity_of_file(Path(self.name))
