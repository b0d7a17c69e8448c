"""Prepared corpora, found again by what went into them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maskwright.core.records.corpus import CorpusManifest
from maskwright.corpus.collocations import CollocationOptions, prepare_collocations
from maskwright.corpus.corpus import Corpus, open_corpus
from maskwright.corpus.prepare import preparation_key
from maskwright.corpus.prepare import prepare as write_corpus
from maskwright.masking.masking import MaskingOptions
from maskwright.pipeline.recipes import RecipeLike, Settings, read_with_overrides
from maskwright.training.recipe.recipe import Recipe


@dataclass(frozen=True)
class PreparedCorpus:
    """Where a prepared corpus is and what it holds.

    Attributes:
        folder: of the corpus.
        manifest: its record.
        collocations: the file of its collocations, where they were asked for.
    """

    folder: Path
    manifest: CorpusManifest
    collocations: Path | None = None


def prepare(
    recipe: RecipeLike,
    *,
    data: Sequence[str] | str | Path = (),
    out: str | Path = Path("runs/corpora"),
    set: Settings = (),
    collocations: bool = False,
) -> PreparedCorpus:
    """Read a recipe's text, train its tokenizer and write token shards; done before, it is found again.

    Args:
        recipe: see `pipeline.train.train`; its sections `data` and `tokenizer` are used.
        data, set: see `pipeline.train.train`.
        out: folder for prepared corpora; the corpus gets a folder of its own there.
        collocations: also find the text's collocations, for the masking strategy pmi.

    Raises:
        RecipeError: the recipe can't be used.
        CorpusError: the text can't be read, or the shards are damaged.
    """
    asked = read_with_overrides(recipe, data, set)
    corpus = prepared(asked, Path(out))
    found = prepare_collocations(corpus, collocation_options(asked)) if collocations else None
    return PreparedCorpus(corpus.folder, corpus.manifest, found)


def prepared(recipe: Recipe, corpora: Path) -> Corpus:
    """Return the corpus of a recipe, prepared now or before, every checksum verified.

    Args:
        recipe: its sections `data` and `tokenizer` and its seed are used.
        corpora: the corpus lies in a folder of its own in this one.

    Raises:
        CorpusError: the text can't be read, or the shards are damaged.
    """
    folder = corpus_folder(recipe, corpora)
    write_corpus(recipe.data, recipe.tokenizer, folder, recipe.seed, recipe.marks)
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
    return corpora / preparation_key(recipe.data, recipe.tokenizer, recipe.seed, recipe.marks)
