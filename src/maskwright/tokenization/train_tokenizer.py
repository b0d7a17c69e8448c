"""Train a tokenizer on text."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator
from tokenizers import AddedToken, Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from maskwright.core.errors import CorpusError
from maskwright.core.options import Options
from maskwright.core.plug_in_field import Chosen, ChosenFrom
from maskwright.tokenization.kinds.base import Kind
from maskwright.tokenization.special_tokens import CLS, MASK, PAD, SEP, SPECIAL_TOKENS, UNK

KINDS = ChosenFrom("maskwright.tokenization.kinds", Kind)


class TokenizerConfig(Options):
    """How text becomes tokens."""

    kind: Annotated[Chosen[Kind], KINDS] = Field(
        default_factory=lambda: KINDS.choose("wordpiece"),
        description="what is trained, a plug-in of tokenization/kinds: wordpiece is BERT's, unigram SentencePiece's, "
        "bpe is byte-level (GPT-2, RoBERTa), characters has a token for each, kmer is for DNA; or a mapping of name "
        "and options, such as {name: kmer, k: 4}",
    )
    vocabulary_size: int = Field(
        default=16_384, ge=16, le=2**24, description="number of tokens at most, special ones included"
    )
    lowercase: bool = Field(default=False, description="whether upper and lower case are the same")
    sample_bytes: int | None = Field(
        default=100_000_000, ge=1, description="text to train on, drawn evenly from the corpus; null takes everything"
    )
    existing: str | None = Field(
        default=None,
        description="folder or hub name of a tokenizer to use instead of training one; the rest is then ignored",
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        self.kind.plug_in.require_fit(self.kind.options, self.vocabulary_size, self.lowercase)
        return self


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig) -> PreTrainedTokenizerFast:
    """Train a tokenizer; the order of the texts does not matter.

    Args:
        texts: read twice: first for its characters, then for its words. An iterator that can be read only once is
            held in memory.
        config: the kind and size.

    Returns:
        A tokenizer with the special tokens `[PAD] [UNK] [CLS] [SEP] [MASK]`.

    Raises:
        CorpusError: there is no text.
    """
    if isinstance(texts, Iterator):
        texts = list(texts)
    kind = config.kind.plug_in(config.kind.options, config.vocabulary_size, config.lowercase)
    alphabet = alphabet_of(texts, kind)
    if not alphabet:
        raise CorpusError("there is no text to train a tokenizer on", "at least one character")
    return with_special_tokens(kind.train(texts, alphabet), kind.mask_takes_space)


def alphabet_of(texts: Iterable[str], kind: Kind) -> str:
    """Return the characters that get a token, most frequent first; the same for any order of the texts."""
    normalizer = kind.normalizer()
    counts = np.zeros(0x110000, np.int64)
    for text in texts:
        codes = np.frombuffer(normalizer.normalize_str(text).encode("utf-32-le", "replace"), "<u4")
        seen = np.bincount(codes)
        counts[: len(seen)] += seen
    most_frequent_first = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    num_kept = kind.num_letters(counts[most_frequent_first])
    return "".join(map(chr, most_frequent_first[:num_kept]))


def with_special_tokens(tokenizer: Tokenizer, mask_takes_space: bool) -> PreTrainedTokenizerFast:
    """Give a trained tokenizer its special tokens by role, and `[CLS] text [SEP]` as the form of a sequence.

    Args:
        tokenizer: the trained one.
        mask_takes_space: see `Kind`.
    """
    tokens = {token: AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS}
    tokens[MASK] = AddedToken(MASK, special=True, normalized=False, lstrip=mask_takes_space)
    tokenizer.add_special_tokens(list(tokens.values()))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLS}:0 $A:0 {SEP}:0",
        pair=f"{CLS}:0 $A:0 {SEP}:0 $B:1 {SEP}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (CLS, SEP)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        pad_token=tokens[PAD],
        unk_token=tokens[UNK],
        cls_token=tokens[CLS],
        sep_token=tokens[SEP],
        mask_token=tokens[MASK],
    )
