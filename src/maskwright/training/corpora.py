"""Prepared corpora, found again by what went into them."""

from pathlib import Path

from maskwright.corpus.corpus import Corpus, open_corpus
from maskwright.corpus.prepare import preparation_key, prepare
from maskwright.training.recipe import Recipe


def prepared(recipe: Recipe, corpora: Path) -> Corpus:
    """Return the corpus of a recipe, prepared now or before, every checksum verified.

    Args:
        recipe: its sections `data` and `tokenizer` and its seed are used.
        corpora: the corpus lies in a folder of its own in this one.

    Raises:
        CorpusError: the text can't be read, or the shards are damaged.
    """
    folder = corpora / preparation_key(recipe.data, recipe.tokenizer, recipe.seed)
    prepare(recipe.data, recipe.tokenizer, folder, recipe.seed)
    return open_corpus(folder, verify=True)
