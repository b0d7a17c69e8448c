"""`manifest.json` of a prepared corpus."""

import hashlib
import json
from typing import Any, Literal

from pydantic import Field

from maskwright.core.records.base import Record

CONTENT_FILES = (".tokens", ".documents", ".words")
"""Endings of the files that every corpus has; by these, texts are told apart."""


class ShardRecord(Record):
    """One shard's files: `<name>.tokens`, `<name>.documents`, one for each mark (`corpus/shards.py` has the format)."""

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
    documents_of_files: list[int] = Field(
        default=[],
        description="documents of each of the manifest's files, in order; none before version 0.2",
    )


class SharedRunsRecord(Record):
    """`shared_runs.npy`: which held-out tokens stand in runs that the training split has too."""

    run_tokens: int = Field(description="length of a run")
    num_tokens: int = Field(description="held-out tokens in such runs")
    sha256: str = Field(description="checksum of the file")


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

    format_version: Literal[1, 2] = Field(default=1, description="2 if there are marks of more than words")
    marks: list[str] = Field(default=["word"], description="units of the text whose first tokens are marked")
    created: str = Field(description="UTC, ISO 8601")
    key: str = Field(default="", description="changes with settings, seed and files: `corpus.prepare.preparation_key`")
    source: dict[str, Any] = Field(description="the recipe's data section as it was resolved")
    files: list[str] = Field(description="the source's files (or its name, for a source without files)")
    tokenizer_sha256: str
    tokenizer_sums_sha256: str | None = Field(
        default=None, description="of SHA256SUMS in the tokenizer's folder; None: written before there were checksums"
    )
    tokenizer_settings: dict[str, Any]
    token_dtype: Literal["uint16", "uint32"]
    has_word_starts: bool
    splits: dict[str, SplitRecord]
    dropped: dict[str, int] = Field(description="documents or bytes left out, by reason, such as 'empty'")
    decontamination: dict[str, int] | None = None
    audit: TokenizerAudit
    seconds: float
    shared_runs: SharedRunsRecord | None = Field(
        default=None, description="near-duplicates across the split; none before version 0.3"
    )
    sha256_of_counts: str = Field(description="checksum of unigram_counts.npy: int64 [V], counts over the train split")

    @property
    def shared_fraction(self) -> float | None:
        """Share of the held-out tokens that stand in runs which the training text has too; None if not known."""
        return self.shared_runs and self.shared_runs.num_tokens / self.splits["held_out"].num_tokens

    @property
    def content_sha256(self) -> str:
        """Checksum of tokenizer and tokens; preparing the same text again, even elsewhere, gives the same checksum.

        Marks of more than words don't count: a run goes on with a corpus that has them.
        """
        content = self.model_dump(include={"tokenizer_sha256", "sha256_of_counts"})
        splits = {name: split.model_dump(exclude={"documents_of_files"}) for name, split in self.splits.items()}
        for shard in (shard for split in splits.values() for shard in split["shards"]):
            for facts in ("sha256", "num_bytes"):
                shard[facts] = {file: fact for file, fact in shard[facts].items() if file.endswith(CONTENT_FILES)}
        content |= {"format_version": 1, "splits": splits}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
