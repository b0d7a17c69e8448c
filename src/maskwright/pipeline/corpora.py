"""Prepared corpora, found again by what went into them."""

from pathlib import Path

from maskwright.corpus.collocations import CollocationOptions
from maskwright.corpus.corpus import Corpus, open_corpus
from maskwright.corpus.prepare import preparation_key, prepare
from maskwright.masking.masking import MaskingOptions
from maskwright.training.recipe.recipe import Recipe


def prepared(recipe: Recipe, corpora: Path) -> Corpus:
    """Return the corpus of a recipe, prepared now or before, every checksum verified.

    Args:
        recipe: its sections `data` and `tokenizer` and its seed are used.
        corpora: the corpus lies in a folder of its own in this one.

    Raises:
        CorpusError: the text can't be read, or the shards are damaged.
    """
    folder = corpus_folder(recipe, corpora)
    prepare(recipe.data, recipe.tokenizer, folder, recipe.seed)
    return open_corpus(folder, verify=True)


def collocation_options(recipe: Recipe) -> CollocationOptions:
    """Return how a recipe wants collocations found: as its first phase with the strategy `pmi` says, or the default."""
    all_options = [phase.objective.options for phase in recipe.phases]
    strategies = [options.strategy for options in all_options if isinstance(options, MaskingOptions)]
    asked = next((each.options for each in strategies if each.label == "pmi"), CollocationOptions())
    return CollocationOptions.model_validate({name: getattr(asked, name) for name in CollocationOptions.model_fields})


def corpus_folder(recipe: Recipe, corpora: Path) -> Path:
    """Return where the corpus of a recipe lies, or will.

    Raises:
        CorpusError: the text is not there.
    """
    return corpora / preparation_key(recipe.data, recipe.tokenizer, recipe.seed)
