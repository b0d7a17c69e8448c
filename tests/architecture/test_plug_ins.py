"""A plug-in is one file: put into its folder, or named as "module:Class", it works without an edit elsewhere."""

import sys
from pathlib import Path

import numpy as np
import pytest

import maskwright.corpus.sources
import maskwright.objectives
from maskwright.core.discovery import load_plug_in, plug_in_names
from maskwright.corpus.config import DataConfig
from maskwright.corpus.corpus import open_corpus
from maskwright.corpus.find_sources import find_sources, source_classes
from maskwright.corpus.prepare import prepare
from maskwright.objectives.base import Objective
from maskwright.tokenization.train_tokenizer import TokenizerConfig
from maskwright.training.recipe.recipe import parse_recipe

OBJECTIVE = '''
"""An objective of the test."""
from maskwright.objectives.mlm import Mlm


class SeldomMask(Mlm):
    """Masks one in twenty."""

    class Config(Mlm.Config):
        """Options."""

        rate: float = 0.05
'''

SOURCE = '''
"""A source of the test."""
from maskwright.corpus.sources.text import Text


class Letters(Text):
    """Letters."""

    suffixes = (".letter",)
'''

FASTA = '''
"""Sequences of DNA in FASTA: a document is a record."""
from collections.abc import Iterator

from maskwright.corpus.sources.base import Piece
from maskwright.corpus.sources.text import Text


class Fasta(Text):
    """A record begins with a line ">name"; its sequence may stand on several lines."""

    suffixes = (".fasta", ".fasta.gz")

    def records(self, pieces) -> Iterator[Piece]:
        name, lines = "", []
        for piece in pieces:
            for line in piece.text.splitlines():
                if line.startswith(">"):
                    if lines:
                        yield Piece("".join(lines), f"{self.name}:{name}")
                    name, lines = line[1:], []
                else:
                    lines.append(line.strip())
        yield Piece("".join(lines), f"{self.name}:{name}")

    def pieces(self):
        return self.records(super().pieces())
'''


@pytest.fixture
def folder_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that adds a folder with one file to a package, as if the file lay in the package."""

    def add(package, name: str, code: str) -> Path:
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        monkeypatch.delitem(sys.modules, f"{package.__name__}.{name}", raising=False)
        return tmp_path

    source_classes.cache_clear()
    yield add
    source_classes.cache_clear()
    for name in (
        "maskwright.objectives.seldom_mask",
        "maskwright.corpus.sources.letters",
        "maskwright.corpus.sources.fasta",
    ):
        sys.modules.pop(name, None)


def test_a_new_objective_is_one_file(folder_of, raw_recipe):
    folder_of(maskwright.objectives, "seldom_mask", OBJECTIVE)
    assert "seldom_mask" in plug_in_names("maskwright.objectives")
    recipe = parse_recipe({**raw_recipe, "phases": [{"objective": {"name": "seldom_mask"}}], "batch": {}}, "test")
    assert recipe.phases[0].objective.options.rate == 0.05


def test_a_new_source_is_one_file(folder_of):
    folder = folder_of(maskwright.corpus.sources, "letters", SOURCE)
    (folder / "a.letter").write_text("Dear all.")
    (source,) = find_sources([str(folder / "a.letter")], DataConfig())
    assert [piece.text for piece in source.pieces()] == ["Dear all."]
    assert [source.name for source in find_sources([str(folder)], DataConfig())] == [str(folder / "a.letter")]


def test_a_source_of_fasta_is_one_file_and_its_corpus_holds_whole_records(folder_of, tmp_path):
    """With the tokenizer kind `kmer`, DNA is prepared without an edit anywhere."""
    folder = folder_of(maskwright.corpus.sources, "fasta", FASTA)
    sequences = ["ACGTAC" * (number + 2) + "ACG" for number in range(30)]
    lines = (f">chr{number}\n{each[:7]}\n{each[7:].lower()}\n" for number, each in enumerate(sequences))
    (folder / "genome.fasta").write_text("".join(lines))
    data = DataConfig(data=str(folder / "genome.fasta"), held_out_fraction=0.1)
    tokenizer = TokenizerConfig.model_validate({"kind": {"name": "kmer", "k": 3}, "vocabulary_size": 80})
    prepare(data, tokenizer, tmp_path / "corpus", seed=1)
    corpus = open_corpus(tmp_path / "corpus", verify=True)
    train, held_out = (corpus.split(name) for name in ("train", "held_out"))
    assert train.num_documents + held_out.num_documents == len(sequences)
    token_ids = train.gather_tokens(np.array([0]), np.array([0]), train.document_lengths[:1]).token_ids
    assert "".join(corpus.load_tokenizer().convert_ids_to_tokens(token_ids.tolist())) in sequences


def test_an_objective_outside_the_package_is_named_by_module_and_class(tmp_path, monkeypatch):
    (tmp_path / "my_objectives_of_the_test.py").write_text(OBJECTIVE)
    monkeypatch.syspath_prepend(str(tmp_path))
    plug_in = load_plug_in("maskwright.objectives", "my_objectives_of_the_test:SeldomMask", Objective)
    assert plug_in.__name__ == "SeldomMask"
