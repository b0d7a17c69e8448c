"""Which tokens begin a word, for whole-word masking."""

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers


def word_start_table(tokenizer: Tokenizer) -> np.ndarray | None:
    """Return bool [V], true for tokens that begin a word, if a token's text alone says so; else None.

    It does for WordPiece (its prefix continues a word) and where white space became "▁" and words are split there
    (SentencePiece's kinds). Others need the encoding's own word numbers, which `tokenizers` keeps at the cost of a
    third of its speed. Both ways give the same answer: `test_word_starts.py`.
    """
    size = max(tokenizer.get_vocab().values()) + 1
    texts = [tokenizer.id_to_token(index) or "" for index in range(size)]
    if isinstance(tokenizer.model, models.WordPiece):
        prefix = tokenizer.model.continuing_subword_prefix
        return np.array([not text.startswith(prefix) for text in texts])
    metaspace = tokenizer.pre_tokenizer
    if isinstance(metaspace, pre_tokenizers.Metaspace) and metaspace.split and metaspace.prepend_scheme == "always":
        return np.array([text.startswith(metaspace.replacement) for text in texts])
    return None
