"""What text a corpus is made of, and how it is read."""

from typing import Literal

from pydantic import Field

from maskwright.core.options import Options


class DataConfig(Options):
    """The text of a corpus and what is done to it before it is tokenized."""

    data: str | tuple[str, ...] = Field(
        default="builtin:docstrings",
        description="files, folders, globs, hf:dataset/config/split, or builtin:docstrings (English, needs no file)",
    )
    text_field: str = Field(
        default="text", description="the field or column with the text, in JSON lines, Parquet and the hub"
    )
    documents: Literal["auto", "file", "paragraph", "line"] = Field(
        default="auto",
        description="what a document is in .txt files: the file, a paragraph (up to a blank line), a line; auto: the "
        "file, and a large one in stretches of 64 to 128 thousand characters that end at a blank line or line end",
    )
    held_out_fraction: float = Field(
        default=0.01,
        gt=0,
        lt=1,
        description="share of documents never trained on, at least one; chosen by their content",
    )
    held_out_bytes: int = Field(
        default=5_000_000,
        ge=1,
        description="about how much text to hold out at most: lowers the fraction of large corpora",
    )
    strict: bool = Field(default=False, description="refuse invalid UTF-8 instead of replacing and counting it")
    decontaminate_against: tuple[str, ...] = Field(
        default=(),
        description="evaluation text (files, folders, globs): documents sharing a word n-gram with it are dropped",
    )
    decontamination_ngram_words: int = Field(
        default=13, ge=2, le=100, description="length of that n-gram (GPT-3 took 13)"
    )

    @property
    def names(self) -> tuple[str, ...]:
        """What `data` names, one or several."""
        return (self.data,) if isinstance(self.data, str) else self.data
