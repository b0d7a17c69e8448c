"""Near-duplicates across the split are found to the token, as a slow search finds them."""

import json
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import raw_record

from maskwright.core.errors import CorpusError
from maskwright.core.records.corpus import CorpusManifest
from maskwright.corpus import shared_runs
from maskwright.corpus.config import DataConfig
from maskwright.corpus.corpus import MANIFEST, Corpus, TokenSplit, open_corpus
from maskwright.corpus.prepare import prepare
from maskwright.corpus.shared_runs import RUN_TOKENS, SHARED_RUNS
from maskwright.tokenization.train_tokenizer import TokenizerConfig


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Documents of which many share a stretch of 10 to 25 letters with others, some just a run, some their end."""
    random = np.random.default_rng(0)
    stretches = [" ".join(random.choice(list("abcdefgh"), random.integers(10, 26))) for _ in range(12)]
    texts = []
    for _ in range(160):
        own = [" ".join(random.choice(list("ijklmnop"), random.integers(0, 9))) for _ in range(2)]
        texts.append(" ".join([own[0], str(random.choice(stretches)), own[1]]))
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    prepare(
        DataConfig(data=str(path), held_out_fraction=0.2), TokenizerConfig(vocabulary_size=60), tmp_path / "corpus", 0
    )
    return open_corpus(tmp_path / "corpus", verify=True)


def documents_of(split: TokenSplit) -> list[list[int]]:
    (_, tokens), *more = split.blocks(int(split.first_tokens[-1]))
    assert not more
    return [tokens.token_ids[begin:end].tolist() for begin, end in pairwise(split.first_tokens)]


def test_the_mask_is_that_of_a_slow_search(corpus: Corpus, monkeypatch: pytest.MonkeyPatch):
    held_out = corpus.manifest.splits["held_out"]
    assert corpus.manifest.shared_runs is not None
    run_tokens = corpus.manifest.shared_runs.run_tokens
    assert RUN_TOKENS < 32 / (held_out.num_text_bytes / held_out.num_tokens) <= run_tokens < 20, "a letter is short"
    known = {
        tuple(document[begin : begin + run_tokens])
        for document in documents_of(corpus.split("train"))
        for begin in range(len(document) - run_tokens + 1)
    }
    expected = []
    for document in documents_of(corpus.split("held_out")):
        is_shared = [False] * len(document)
        for begin in range(len(document) - run_tokens + 1):
            if tuple(document[begin : begin + run_tokens]) in known:
                is_shared[begin : begin + run_tokens] = [True] * run_tokens
        expected.append(is_shared)
    found = corpus.split("held_out").is_shared
    assert found is not None
    assert found.tolist() == list(chain(*expected))
    assert 0.2 < found.mean() < 0.9
    assert corpus.manifest.shared_fraction == found.mean()
    monkeypatch.setattr(shared_runs, "BLOCK_TOKENS", 7)
    train = corpus.manifest.splits["train"]
    again = shared_runs.write_shared_runs(corpus.folder, train, held_out, corpus._form, run_tokens)
    assert again == corpus.manifest.shared_runs, "borders of blocks do not matter"


def test_documents_shorter_than_a_run_share_nothing(corpus: Corpus):
    splits = corpus.manifest.splits
    longest = int(corpus.split("held_out").document_lengths.max())
    found = shared_runs.write_shared_runs(corpus.folder, splits["train"], splits["held_out"], corpus._form, longest + 1)
    assert found.num_tokens == 0


def test_a_corpus_without_the_file_is_read_and_has_the_same_content(corpus: Corpus):
    raw = raw_record(corpus.folder / MANIFEST)
    del raw["shared_runs"]
    old = CorpusManifest.model_validate_json(json.dumps(raw))
    assert old.content_sha256 == corpus.manifest.content_sha256
    assert old.shared_fraction is None
    (corpus.folder / SHARED_RUNS).unlink()
    with pytest.raises(CorpusError, match="missing or was altered"):
        open_corpus(corpus.folder, verify=False)
    old.write(corpus.folder / MANIFEST)
    assert open_corpus(corpus.folder, verify=True).split("held_out").is_shared is None
