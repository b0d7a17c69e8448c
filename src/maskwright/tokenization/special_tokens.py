"""The special tokens of a tokenizer: those that ours have, and those of any by their role."""

import hashlib
import json

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from maskwright.core.errors import CorpusError
from maskwright.core.vocabulary import Vocabulary

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""The special tokens of every tokenizer trained here."""


def vocabulary_of(tokenizer: PreTrainedTokenizerFast) -> Vocabulary:
    """Return what the rest of the program knows of a tokenizer.

    A tokenizer without `cls`/`sep` may have `bos`/`eos` in their place.

    Raises:
        CorpusError: a role that every masked objective needs has no token.
    """
    roles = {
        "mask": id_of(tokenizer, "mask"),
        "pad": id_of(tokenizer, "pad"),
        "cls (or bos)": id_of(tokenizer, "cls", "bos"),
        "sep (or eos)": id_of(tokenizer, "sep", "eos"),
    }
    missing = [role for role, token_id in roles.items() if token_id is None]
    if missing:
        raise CorpusError(
            f"the tokenizer {tokenizer.name_or_path or ''} has no {', '.join(missing)} token",
            "a mask, a pad, a cls (or bos) and a sep (or eos) token",
            "train one (leave `existing` out), or add the token once with tokenizer.add_special_tokens("
            '{"mask_token": "[MASK]"}) and save_pretrained',
        )
    mask_id, pad_id, cls_id, sep_id = (int(token_id) for token_id in roles.values() if token_id is not None)
    added = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    special_ids = tuple(sorted(added | {index for index in tokenizer.all_special_ids if index is not None}))
    return Vocabulary(
        size=max(len(tokenizer), max(tokenizer.get_vocab().values()) + 1),
        pad_id=pad_id,
        cls_id=cls_id,
        sep_id=sep_id,
        mask_id=mask_id,
        unk_id=id_of(tokenizer, "unk"),
        special_ids=special_ids,
        sha256=tokenizer_sha256(tokenizer, [pad_id, cls_id, sep_id, mask_id]),
        has_words=has_words(tokenizer),
    )


def has_words(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Return whether the tokenizer splits text into words first; else all of a text is one word to it."""
    encoding = plain_text_encoder(tokenizer).encode("one two three", add_special_tokens=False)
    return len({word for word in encoding.word_ids if word is not None}) > 1


def id_of(tokenizer: PreTrainedTokenizerFast, *roles: str) -> int | None:
    """Return the token id of the first of the roles that the tokenizer has."""
    token_ids = (getattr(tokenizer, f"{role}_token_id") for role in roles)
    return next((token_id for token_id in token_ids if token_id is not None), None)


def tokenizer_sha256(tokenizer: PreTrainedTokenizerFast, role_ids: list[int]) -> str:
    """Return a checksum of what a tokenizer does to text; how it was saved, padded or named does not change it."""
    content = json.dumps([json.loads(stateless(tokenizer).to_str()), role_ids], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def stateless(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """Return a copy of the tokenizer behind `tokenizer`, without padding and truncation left over from its last use."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_padding()
    backend.no_truncation()
    return backend


def plain_text_encoder(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """Return a copy that encodes "[MASK]" and similar strings in a text as plain text, never as the special token."""
    backend = stateless(tokenizer)
    backend.encode_special_tokens = True
    return backend
