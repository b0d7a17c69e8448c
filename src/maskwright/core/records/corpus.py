"""`manifest.json` of a prepared corpus."""

import hashlib
import json
from typing import Any, Literal

from pydantic import Field

from maskwright.core.records.base import Record


class ShardRecord(Record):
    """One shard's files: `<name>.tokens`, `<name>.documents`, `<name>.words` (`corpus/shards.py` has the format)."""

    name: str
    num_documents: int
    num_tokens: int
    sha256: dict[str, str] = Field(description="checksum by file name")
    num_bytes: dict[str, int] = Field(description="size by file name")


class SplitRecord(Record):
    """One part of a corpus, "train" or "held_out"."""

    shards: list[ShardRecord]
    num_documents: int
    num_words: int
    num_tokens: int
    num_text_bytes: int


class TokenizerAudit(Record):
    """How well a tokenizer fits the text, measured on held-out documents."""

    kind: str = Field(description="unigram, wordpiece, bpe, characters, or the class of an existing tokenizer")
    vocabulary_size: int
    num_sampled_documents: int
    unknown_rate: float = Field(description="unknown tokens / tokens")
    tokens_per_word: float = Field(description="fertility: tokens / white-space words")
    characters_per_token: float
    character_coverage: float = Field(description="share of the text's characters inside known tokens")
    sample_text: str = Field(description="one short piece of the text")
    sample_tokens: list[str] = Field(description="the tokens of `sample_text`")


class CorpusManifest(Record):
    """`manifest.json` of a prepared corpus."""

    format_version: Literal[1] = 1
    created: str = Field(description="UTC, ISO 8601")
    key: str = Field(default="", description="changes with settings, seed and files: `corpus.prepare.preparation_key`")
    source: dict[str, Any] = Field(description="the recipe's data section as it was resolved")
    files: list[str] = Field(description="the source's files (or its name, for a source without files)")
    tokenizer_sha256: str
    tokenizer_settings: dict[str, Any]
    token_dtype: Literal["uint16", "uint32"]
    has_word_starts: bool
    splits: dict[str, SplitRecord]
    dropped: dict[str, int] = Field(description="documents or bytes left out, by reason, such as 'empty'")
    decontamination: dict[str, int] | None = None
    audit: TokenizerAudit
    seconds: float
    sha256_of_counts: str = Field(description="checksum of unigram_counts.npy: int64 [V], counts over the train split")

    @property
    def content_sha256(self) -> str:
        """Checksum of tokenizer and tokens; preparing the same text again, even elsewhere, gives the same checksum."""
        content = self.model_dump(include={"format_version", "tokenizer_sha256", "splits", "sha256_of_counts"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
