"""What the rest of the program knows of a tokenizer: its size and the roles of its special tokens."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Vocabulary:
    """Token ids by role, found by `tokenization.special_tokens`.

    Attributes:
        size: number of token ids, V.
        pad_id, cls_id, sep_id, mask_id: ids by role; a sequence is `cls ... sep`.
        unk_id: None for tokenizers that know every byte.
        special_ids: every id that is not text (the above and any further ones): never masked, never drawn at random.
        sha256: checksum of the tokenizer; shards and checkpoints carry it.
        has_words: whether the tokenizer says where words begin.
    """

    size: int
    pad_id: int
    cls_id: int
    sep_id: int
    mask_id: int
    unk_id: int | None
    special_ids: tuple[int, ...]
    sha256: str
    has_words: bool = True
