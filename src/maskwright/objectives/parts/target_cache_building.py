"""Fills a cache of targets: every document of the train split through the teacher once, packed, part by part."""

from pathlib import Path

from maskwright.corpus.corpus import Corpus
from maskwright.objectives.parts.dictionary import Dictionary
from maskwright.objectives.parts.target_cache import TargetCache, TargetKey
from maskwright.objectives.parts.targets import CodingOptions
from maskwright.objectives.parts.teacher import Teacher


def target_key(
    corpus: Corpus, teacher: Teacher, dictionary: Dictionary, options: CodingOptions, sequence_length: int
) -> TargetKey:
    """Return what the targets depend on."""
    raise NotImplementedError


def cache_folder(corpus: Corpus, key: TargetKey) -> Path:
    """Return where the cache of a key lies: beside the corpus's shards."""
    raise NotImplementedError


def build_target_cache(
    folder: Path,
    corpus: Corpus,
    teacher: Teacher,
    dictionary: Dictionary,
    options: CodingOptions,
    sequence_length: int,
    micro_batch_tokens: int,
) -> TargetCache:
    """Build a cache, go on with one that was begun, or open one that is finished."""
    raise NotImplementedError
