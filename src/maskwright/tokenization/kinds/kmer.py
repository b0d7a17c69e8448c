"""Runs of k bases of DNA, one after the other, and single bases for what is left over.

Source: Dalla-Torre et al. 2023, The Nucleotide Transformer, bioRxiv 2023.01.11.523679 (6-mers that do not overlap, and
    the bases A, C, G, T, N alone where a run is broken by an N or ends). Overlapping k-mers, as in Ji et al. 2021,
    DNABERT, Bioinformatics 37(15), are left out: a masked one can be read off its neighbours.
Departures: none known. White space within a sequence is dropped and lower case, which marks repeats in genomes, is read
    as upper case; any other character is unknown.
"""

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
from pydantic import Field
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from maskwright.core.options import Options
from maskwright.tokenization.kinds.base import Kind
from maskwright.tokenization.special_tokens import SPECIAL_TOKENS, UNK

BASES, UNKNOWN_BASE = "ACGT", "N"


class KmerConfig(Options):
    """Options of `kmer`."""

    k: int = Field(default=6, ge=1, le=10, description="bases in a token (Nucleotide Transformer: 6)")


class Kmer(Kind):
    """Runs of k bases that don't overlap: the vocabulary has 4^k of them, the single bases and the special tokens."""

    Config = KmerConfig

    @classmethod
    def require_fit(cls, options: Any, vocabulary_size: int, lowercase: bool) -> None:
        """See `Kind`: every k-mer has a token, and case means nothing."""
        needed = len(vocabulary_of_kmers(options.k))
        if needed > vocabulary_size:
            raise ValueError(
                f"kmer with k: {options.k} has {needed:,} tokens, vocabulary_size is {vocabulary_size:,}; set it to "
                f"{needed} or more, or take a smaller k"
            )
        if lowercase:
            raise ValueError("lowercase has no meaning with kmer, which reads bases in upper case; leave it out")

    def normalizer(self) -> normalizers.Normalizer:
        """See `Kind`: bases in upper case, with nothing between them."""
        letters = [normalizers.Replace(base.lower(), base) for base in BASES + UNKNOWN_BASE]
        return normalizers.Sequence([normalizers.Replace(Regex(r"\s+"), ""), *letters])

    def num_letters(self, counts: np.ndarray) -> int:
        """See `Kind`: the alphabet is that of DNA, whatever the text holds."""
        return len(counts)

    def train(self, texts: Iterable[str], alphabet: str) -> Tokenizer:
        """See `Kind`; nothing is learned from the text."""
        vocabulary = {token: index for index, token in enumerate(vocabulary_of_kmers(self.options.k))}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
        tokenizer.normalizer = self.normalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(f"[{BASES}]{{{self.options.k}}}|."), "isolated")
        tokenizer.decoder = decoders.Fuse()
        return tokenizer


def vocabulary_of_kmers(k: int) -> list[str]:
    """Return all tokens in order: special ones, single bases, runs of k bases."""
    runs = map("".join, itertools.product(BASES, repeat=k))
    return list(dict.fromkeys([*SPECIAL_TOKENS, *BASES, UNKNOWN_BASE, *runs]))
