"""Train a tokenizer on text."""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
from pydantic import Field
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from maskwright.core.errors import CorpusError
from maskwright.core.options import Options

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""The special tokens of every tokenizer trained here."""

CHARACTER_COVERAGE = 0.9999
"""Share of the text's characters that get a token; the rarest ones are unknown (SentencePiece's default is 0.9995)."""


class TokenizerConfig(Options):
    """How text becomes tokens."""

    kind: Literal["wordpiece", "unigram", "bpe", "characters"] = Field(
        default="wordpiece",
        description="what is trained; wordpiece is BERT's, unigram SentencePiece's, bpe is byte-level (GPT-2, RoBERTa)",
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
    alphabet = alphabet_of(texts, config)
    if not alphabet:
        raise CorpusError("there is no text to train a tokenizer on", "at least one character")
    build = {"wordpiece": wordpiece, "unigram": unigram, "bpe": byte_level_bpe, "characters": characters}[config.kind]
    return with_special_tokens(build(texts, alphabet, config), mask_takes_space=config.kind in ("unigram", "bpe"))


def alphabet_of(texts: Iterable[str], config: TokenizerConfig) -> str:
    """Return the characters that get a token, most frequent first; the same for any order of the texts."""
    normalizer = normalizer_of(config)
    counts = np.zeros(0x110000, np.int64)
    for text in texts:
        codes = np.frombuffer(normalizer.normalize_str(text).encode("utf-32-le", "replace"), "<u4")
        seen = np.bincount(codes)
        counts[: len(seen)] += seen
    most_frequent_first = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    if config.kind == "characters":
        most_frequent_first = most_frequent_first[: config.vocabulary_size - len(SPECIAL_TOKENS)]
    else:
        covered = np.cumsum(counts[most_frequent_first]) / max(counts.sum(), 1)
        num_kept = int(np.searchsorted(covered, CHARACTER_COVERAGE)) + 1
        most_frequent_first = most_frequent_first[: max(1, min(num_kept, config.vocabulary_size // 4))]
    return "".join(map(chr, most_frequent_first))


def normalizer_of(config: TokenizerConfig) -> normalizers.Normalizer:
    """Return what is done to text before it is split, so that users' text is treated as the corpus was."""
    if config.kind == "wordpiece":
        bert = normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=config.lowercase
        )
        return normalizers.Sequence([normalizers.NFC(), bert])
    steps: list[normalizers.Normalizer] = [normalizers.NFC()]
    if config.lowercase:
        steps.append(normalizers.Lowercase())
    if config.kind == "unigram":
        steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    return normalizers.Sequence(steps)


def wordpiece(texts: Iterable[str], alphabet: str, config: TokenizerConfig) -> Tokenizer:
    """Train BERT's kind: words and punctuation marks, then greedy pieces; "##" continues a word."""
    tokenizer = Tokenizer(models.WordPiece({}, unk_token=UNK))
    tokenizer.normalizer = normalizer_of(config)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The trainer numbers the continuing characters in the order of a hash table; naming them first fixes the order.
    letters = [character for character in alphabet if not character.isspace()]
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.vocabulary_size,
        special_tokens=[*SPECIAL_TOKENS, *letters, *("##" + letter for letter in letters)],
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(only(alphabet, tokenizer.normalizer, texts), trainer)
    trained = Tokenizer(models.WordPiece(tokenizer.get_vocab(), unk_token=UNK, max_input_chars_per_word=100))
    trained.normalizer, trained.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    trained.decoder = decoders.WordPiece(cleanup=False)
    return trained


def unigram(texts: Iterable[str], alphabet: str, config: TokenizerConfig) -> Tokenizer:
    """Train SentencePiece's kind: the most probable pieces (Kudo 2018, arXiv:1804.10959); "▁" begins a word."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer_of(config)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    # Only [UNK] is a piece of the model: it would find the other special tokens in a text that spells them.
    num_others = len(SPECIAL_TOKENS) - 1
    trainer = trainers.UnigramTrainer(
        vocab_size=config.vocabulary_size - num_others, special_tokens=[UNK], unk_token=UNK, show_progress=False
    )
    tokenizer.train_from_iterator(only(alphabet, tokenizer.normalizer, texts), trainer)
    return tokenizer


def byte_level_bpe(texts: Iterable[str], alphabet: str, config: TokenizerConfig) -> Tokenizer:
    """Train GPT-2's kind: merges of bytes, so nothing is ever unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer_of(config)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=max(config.vocabulary_size, len(SPECIAL_TOKENS) + 256),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def characters(texts: Iterable[str], alphabet: str, config: TokenizerConfig) -> Tokenizer:
    """Make a token of every character, white space too; words are what stands between white space."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *sorted(alphabet)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token=UNK, fuse_unk=False))
    tokenizer.normalizer = normalizer_of(config)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def only(alphabet: str, normalizer: normalizers.Normalizer, texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts, normalised, with a space for every character outside the alphabet."""
    is_known = np.zeros(0x110000, bool)
    is_known[np.frombuffer(alphabet.encode("utf-32-le"), "<u4")] = True
    for text in texts:
        codes = np.frombuffer(normalizer.normalize_str(text).encode("utf-32-le", "replace"), "<u4")
        yield np.where(is_known[codes], codes, ord(" ")).astype("<u4").tobytes().decode("utf-32-le")


def with_special_tokens(tokenizer: Tokenizer, mask_takes_space: bool) -> PreTrainedTokenizerFast:
    """Give a trained tokenizer its special tokens by role, and `[CLS] text [SEP]` as the form of a sequence.

    Args:
        tokenizer: the trained one.
        mask_takes_space: whether `[MASK]` stands for a word with the space before it, as the words of this kind do.
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
