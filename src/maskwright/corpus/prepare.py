"""Text to a corpus on disk: read, clean, train the tokenizer, encode, split, write; in flat memory and one folder."""

import datetime
import hashlib
import io
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Literal, Self

import filelock
import numpy as np
import tokenizers
from transformers import PreTrainedTokenizerFast

from maskwright.core.batches import WORD
from maskwright.core.errors import CorpusError
from maskwright.core.files import make_folder, sha256_of_file, write_bytes_atomically, write_folder_atomically
from maskwright.core.integrity import write_sums
from maskwright.core.log import progress, say, warn
from maskwright.core.plug_in_field import short_form
from maskwright.core.records.corpus import CorpusManifest, SplitRecord
from maskwright.corpus.cleaning import Cleaner, CleanPiece
from maskwright.corpus.config import DataConfig
from maskwright.corpus.corpus import COUNTS, MANIFEST, TOKENIZER, read_manifest
from maskwright.corpus.decontamination import Decontaminator
from maskwright.corpus.encoding import EncodedBatch, TextEncoder, encode_in_order
from maskwright.corpus.find_sources import find_sources
from maskwright.corpus.shards import HEADER, TOKENS, ShardFormat, SplitWriter
from maskwright.corpus.shared_runs import run_length, write_shared_runs
from maskwright.corpus.sources.base import Source
from maskwright.corpus.survey import HeldOutRule, Survey, survey, with_only_document_cut
from maskwright.tokenization.audit import audit
from maskwright.tokenization.folder import load_tokenizer, save_tokenizer
from maskwright.tokenization.special_tokens import vocabulary_of
from maskwright.tokenization.train_tokenizer import TokenizerConfig, train_tokenizer

SPLITS = TRAIN, HELD_OUT = ("train", "held_out")

AUDITED_CHARACTERS = 500_000
"""Held-out text that the tokenizer is judged by."""


def preparation_key(data: DataConfig, tokenizer: TokenizerConfig, seed: int, marks: Sequence[str] = (WORD,)) -> str:
    """Return a short name of a preparation: it changes with the settings, the seed, the marks and the text's files.

    Files are identified by path, size and modification time; nothing is read.

    Raises:
        CorpusError: the data does not exist.
    """
    return key_of(find_sources(data.names, data), data, tokenizer, seed, marks)


def key_of(sources: list[Source], data: DataConfig, tokenizer: TokenizerConfig, seed: int, marks: Sequence[str]) -> str:
    """`preparation_key` of sources that were already found."""
    evaluation = find_sources(data.decontaminate_against, data)
    existing = Path(tokenizer.existing or "", "tokenizer.json")
    facts = {
        "format": format_version(marks),
        "tokenizers": tokenizers.__version__,
        "data": data.model_dump(mode="json"),
        "tokenizer": tokenizer.model_dump(mode="json") | {"kind": short_form(tokenizer.kind)},
        "existing": sha256_of_file(existing) if tokenizer.existing and existing.is_file() else None,
        "seed": seed,
        "sources": [source.identity() for source in [*sources, *evaluation]],
    }
    facts |= {"marks": list(marks)} if facts["format"] > 1 else {}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def format_version(marks: Sequence[str]) -> Literal[1, 2]:
    """Return the version of a corpus's format: 2 where more than words is marked."""
    return 1 if tuple(marks) == (WORD,) else 2


def prepare(
    data: DataConfig, tokenizer: TokenizerConfig, folder: Path, seed: int, marks: Sequence[str] = (WORD,)
) -> CorpusManifest:
    """Make a corpus; return at once if the folder holds the same one already.

    Args:
        data: the text.
        tokenizer: what to train, or which existing one to take.
        folder: becomes the corpus: shards, tokenizer, counts, manifest. It is whole or absent.
        seed: decides what is held out and what the tokenizer is trained on.
        marks: whose beginnings are marked: words, and what else of `corpus.marks.MARKS`, in that order.

    Raises:
        CorpusError: the text can't be used, or the folder holds something else.
        MissingDependency: a source's library is not installed.
        StorageError: the disk is full.
    """
    folder = Path(folder)
    sources = find_sources(data.names, data)
    key = key_of(sources, data, tokenizer, seed, marks)
    make_folder(folder.parent)
    with filelock.FileLock(folder.with_name(f".{folder.name}.lock")):
        if (folder / MANIFEST).is_file():
            manifest = read_manifest(folder)
            if manifest.key == key:
                return manifest
        if folder.exists() and any(folder.iterdir()):
            raise CorpusError(
                f"{folder} is not empty and holds something else than this corpus",
                "a new folder, or the corpus of exactly these settings and files",
                "choose another folder, or delete this one",
            )
        with write_folder_atomically(folder) as temporary:
            return Preparation(data, tokenizer, seed, sources, key, tuple(marks)).write(temporary)


@dataclass
class Preparation:
    """One preparation under way."""

    data: DataConfig
    tokenizer_config: TokenizerConfig
    seed: int
    sources: list[Source]
    key: str
    marks: tuple[str, ...]

    def write(self, folder: Path) -> CorpusManifest:
        """Write the whole corpus into an empty folder."""
        begin = time.monotonic()
        decontaminator = self.decontaminator()
        found = self.survey(decontaminator)
        rule = found.held_out_rule(self.data)
        trained_on = [text for number, text in found.sample if not rule.is_held_out(number)]
        tokenizer = self.make_tokenizer(trained_on or [text for _, text in found.sample])
        found.sample.clear()
        save_tokenizer(tokenizer, folder / TOKENIZER)
        sums_sha256 = write_sums(folder / TOKENIZER)
        tokenizer = load_tokenizer(folder / TOKENIZER)
        vocabulary = vocabulary_of(tokenizer)
        form = ShardFormat(vocabulary.size, vocabulary.sha256, self.marks)
        trained_kind = None if self.tokenizer_config.existing else self.tokenizer_config.kind.label
        cleaner = Cleaner(self.seed, decontaminator)
        encoder = TextEncoder(tokenizer, vocabulary, form.token_dtype, self.marks)
        with TokenizedSplits(folder, form, rule, len(self.sources)) as tokenized:
            with progress("tokenizing (bytes)", found.num_text_bytes) as advance:
                for batch in encode_in_order(self.pieces(cleaner, rule), encoder):
                    tokenized.add(batch)
                    advance(int(batch.num_bytes.sum()))
            splits = tokenized.close()
        dropped = cleaner.dropped + tokenized.dropped
        if dropped["invalid UTF-8"]:
            warn(f"{dropped['invalid UTF-8']:,} pieces of invalid UTF-8 were replaced; `strict` says where they are")
        run_tokens = run_length(splits[HELD_OUT])
        manifest = CorpusManifest(
            format_version=format_version(self.marks),
            marks=list(self.marks),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            key=self.key,
            source={**self.data.model_dump(mode="json"), "seed": self.seed},
            files=[source.name for source in self.sources],
            tokenizer_sha256=vocabulary.sha256,
            tokenizer_sums_sha256=sums_sha256,
            tokenizer_settings=self.tokenizer_config.model_dump(mode="json"),
            token_dtype="uint16" if form.token_dtype.itemsize == 2 else "uint32",
            has_word_starts=True,
            splits=splits,
            dropped=dict(sorted(dropped.items())),
            decontamination=decontaminator
            and {
                "ngram_words": decontaminator.ngram_words,
                "evaluation_ngrams": decontaminator.num_ngrams,
                "documents_dropped": dropped["contaminated"],
            },
            audit=audit(tokenizer, tokenized.audited_texts, trained_kind),
            shared_runs=write_shared_runs(folder, splits[TRAIN], splits[HELD_OUT], form, run_tokens),
            sha256_of_counts=write_unigram_counts(folder, splits[TRAIN], form),
            seconds=round(time.monotonic() - begin, 3),
        )
        manifest.write(folder / MANIFEST)
        say(f"{manifest.shared_fraction:.1%} of the held-out tokens are in runs of {run_tokens} that training has too")
        return manifest

    def decontaminator(self) -> Decontaminator | None:
        """Read the evaluation texts, if any are named."""
        if not self.data.decontaminate_against:
            return None
        sources = find_sources(self.data.decontaminate_against, self.data)
        texts = (piece.text for source in sources for piece in source.pieces())
        return Decontaminator(texts, self.data.decontamination_ngram_words)

    def survey(self, decontaminator: Decontaminator | None) -> Survey:
        """Read everything once.

        Raises:
            CorpusError: there is no text.
        """
        config = self.tokenizer_config
        sample_bytes = 0 if config.existing else (config.sample_bytes or math.inf)
        sizes = [source.num_text_bytes() for source in self.sources]
        total = None if None in sizes else sum(size for size in sizes if size)
        cleaner = Cleaner(self.seed, decontaminator)
        with progress("reading (bytes)", total) as advance:
            found = survey(cleaner.clean(self.sources), sample_bytes, self.seed, advance)
        if not found.num_documents:
            left_out = ", ".join(f"{count:,} {reason}" for reason, count in cleaner.dropped.items())
            raise CorpusError(
                f"there is no text in {', '.join(self.data.names)[:200]} ({len(self.sources):,} sources; {left_out})",
                "at least one document with text",
                "check the files, `text_field` and `decontaminate_against`",
            )
        return found

    def make_tokenizer(self, texts: list[str]) -> PreTrainedTokenizerFast:
        """Train the tokenizer, or load the existing one."""
        config = self.tokenizer_config
        if config.existing:
            tokenizer = load_tokenizer(config.existing)
            vocabulary_of(tokenizer)
            return tokenizer
        say(f"training a {config.kind.label} tokenizer on {sum(map(len, texts)):,} characters")
        return train_tokenizer(texts, config)

    def pieces(self, cleaner: Cleaner, rule: HeldOutRule) -> Iterator[CleanPiece]:
        """Yield the text to be tokenized."""
        pieces = cleaner.clean(self.sources)
        return pieces if rule.only_document_cut is None else with_only_document_cut(pieces, rule.only_document_cut)


class TokenizedSplits:
    """Both splits while they are written.

    Attributes:
        dropped: documents left out here, by reason.
        audited_texts: held-out text for the tokenizer's audit.
    """

    def __init__(self, folder: Path, form: ShardFormat, rule: HeldOutRule, num_sources: int) -> None:
        """Begin with empty splits."""
        self.rule = rule
        self.dropped: Counter[str] = Counter()
        self.audited_texts: list[str] = []
        self._splits = {split: SplitInProgress(SplitWriter(folder, split, form), num_sources) for split in SPLITS}
        self._num_audited_characters = 0

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files, also after an error."""
        for split in self._splits.values():
            split.writer.discard()

    def add(self, batch: EncodedBatch) -> None:
        """Append each document to its split."""
        is_held_out = np.array([self.rule.is_held_out(piece.number) for piece in batch.pieces])
        for split, chosen in ((TRAIN, ~is_held_out), (HELD_OUT, is_held_out)):
            if chosen.any():
                self.dropped["without tokens"] += self._splits[split].add(batch, chosen)
        for piece, held_out in zip(batch.pieces, is_held_out, strict=True):
            if held_out and self._num_audited_characters < AUDITED_CHARACTERS:
                self.audited_texts.append(piece.text)
                self._num_audited_characters += len(piece.text)

    def close(self) -> dict[str, SplitRecord]:
        """Finish the shards and return the records of both splits.

        Raises:
            CorpusError: one of them is empty: the tokenizer found no tokens, or the text changed while it was read.
        """
        records = {name: split.record() for name, split in self._splits.items()}
        for name, record in records.items():
            if not record.num_documents:
                raise CorpusError(
                    f"no document was left for the {name} split",
                    "text that has tokens and stays as it is meanwhile",
                )
        return records


class SplitInProgress:
    """One split while it is written: its shards, and its words and bytes."""

    def __init__(self, writer: SplitWriter, num_sources: int) -> None:
        """Begin empty."""
        self.writer = writer
        self._documents_of_sources = np.zeros(num_sources, np.int64)
        self._whole, self._pending = np.zeros(2, np.int64), np.zeros(2, np.int64)

    def add(self, batch: EncodedBatch, chosen: np.ndarray) -> int:
        """Append the chosen pieces of a batch; return how many documents were left out for having no tokens."""
        pieces = list(compress(batch.pieces, chosen))
        is_end = np.array([piece.is_last and not piece.is_contaminated for piece in pieces])
        of_tokens = slice(None) if chosen.all() else np.repeat(chosen, batch.lengths)
        ends = np.cumsum(batch.lengths[chosen])[is_end]
        is_written = self.writer.append(batch.tokens[of_tokens], ends)
        sources = np.array([piece.source for piece in pieces])[is_end]
        self._documents_of_sources += np.bincount(sources[is_written], minlength=len(self._documents_of_sources))
        sizes = np.stack([batch.num_words, batch.num_bytes])[:, chosen] * (batch.lengths[chosen] > 0)
        num_whole = int(np.flatnonzero(is_end)[-1]) + 1 if is_end.any() else 0
        if num_whole:
            self._whole += self._pending + sizes[:, :num_whole].sum(axis=1)
            self._pending[:] = 0
        self._pending += sizes[:, num_whole:].sum(axis=1)
        if pieces[-1].is_last and pieces[-1].is_contaminated:
            self.writer.abandon_document()
            self._pending[:] = 0
        return int((~is_written).sum())

    def record(self) -> SplitRecord:
        """Finish the shards and return the split's record."""
        shards = self.writer.close()
        return SplitRecord(
            shards=shards,
            num_documents=sum(shard.num_documents for shard in shards),
            num_words=int(self._whole[0]),
            num_tokens=sum(shard.num_tokens for shard in shards),
            num_text_bytes=int(self._whole[1]),
            documents_of_files=self._documents_of_sources.tolist(),
        )


def write_unigram_counts(folder: Path, train: SplitRecord, form: ShardFormat) -> str:
    """Count every token of the train split, write the counts and return their checksum."""
    counts = np.zeros(form.vocabulary_size, np.int64)
    for record in train.shards:
        with (folder / (record.name + TOKENS)).open("rb") as file:
            file.seek(HEADER.size)
            while len(tokens := np.fromfile(file, form.token_dtype, 1 << 20)):
                counts += np.bincount(tokens, minlength=form.vocabulary_size)
    content = io.BytesIO()
    np.save(content, counts, allow_pickle=False)
    write_bytes_atomically(folder / COUNTS, content.getvalue())
    return sha256_of_file(folder / COUNTS)
