"""Every sampler: rows are a pure function of their number, of one shape, and hold the text of the split."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from maskwright.batching.samplers.pairs import NEXT, RANDOM, SWAPPED
from maskwright.core.batches import NO_LABEL, SENTENCE, WORD, PackedBatch
from maskwright.core.discovery import plug_in_names
from maskwright.core.errors import CorpusError, RecipeError
from maskwright.corpus.config import DataConfig
from maskwright.corpus.corpus import Corpus, open_corpus
from maskwright.corpus.marks import MARKS
from maskwright.corpus.prepare import prepare
from maskwright.tokenization.train_tokenizer import TokenizerConfig
from maskwright.training.recipe.recipe import parse_recipe
from maskwright.training.recipe.sections import SAMPLERS

LENGTH = 32
CASES: list[dict[str, Any]] = [
    *({"name": name} for name in plug_in_names(SAMPLERS.package)),
    {"name": "documents", "one_document_per_sequence": True},
    {"name": "segments", "unit": "paragraph"},
    {"name": "pairs", "swapped_fraction": 0.3, "random_fraction": 0.4},
]


@pytest.fixture(scope="module")
def marked(tmp_path_factory) -> Corpus:
    """Documents of a few sentences of four to nine words, in paragraphs."""
    folder = tmp_path_factory.mktemp("marked")
    random = np.random.default_rng(0)
    words = [
        "the",
        "court",
        "heard",
        "appeal",
        "judge",
        "ruled",
        "against",
        "company",
        "river",
        "boats",
        "carried",
        "grain",
    ]

    def sentence() -> str:
        return " ".join(random.choice(words, random.integers(4, 10))).capitalize() + "."

    def document() -> str:
        paragraphs = (" ".join(sentence() for _ in range(random.integers(1, 5))) for _ in range(random.integers(1, 4)))
        return "\\n\\n".join(paragraphs)

    lines = [f'{{"text": "{document()}"}}\n' for _ in range(120)]
    (folder / "text.jsonl").write_text("".join(lines), encoding="utf-8")
    data = DataConfig(data=str(folder / "text.jsonl"), held_out_fraction=0.1)
    prepare(data, TokenizerConfig(vocabulary_size=90), folder / "corpus", seed=1, marks=MARKS)
    return open_corpus(folder / "corpus", verify=True)


def made(corpus: Corpus, options: dict[str, Any], seed: int = 3):
    chosen = SAMPLERS.choose(options)
    return chosen.plug_in(chosen.options, corpus.split("train"), corpus.vocabulary, LENGTH, seed)


def text_of(batch: PackedBatch, corpus: Corpus) -> Counter[int]:
    return Counter(batch.token_ids_T[is_text(batch, corpus)].tolist())


def is_text(batch: PackedBatch, corpus: Corpus) -> torch.Tensor:
    vocabulary = corpus.vocabulary
    return ~torch.isin(batch.token_ids_T, torch.tensor([vocabulary.pad_id, vocabulary.cls_id, vocabulary.sep_id]))


@pytest.fixture(params=CASES, ids=lambda case: "-".join(map(str, case.values())))
def case(request) -> dict[str, Any]:
    return request.param


def test_rows_are_a_function_of_the_seed_and_their_number(marked, case):
    whole = made(marked, case).batch(0, 12)
    again = made(marked, case)
    last = again.num_rows_per_epoch - 2
    later = again.batch(last, 4)  # over the border of an epoch, and back
    parts = [again.batch(first, 4) for first in (0, 4, 8)]
    assert torch.equal(whole.token_ids_T, torch.cat([part.token_ids_T for part in parts]))
    assert torch.equal(later.token_ids_T, made(marked, case).batch(last, 4).token_ids_T)
    assert not torch.equal(whole.token_ids_T, made(marked, case, seed=4).batch(0, 12).token_ids_T)


def test_shapes_are_fixed_and_the_layout_says_what_is_there(marked, case):
    sampler, vocabulary = made(marked, case), marked.vocabulary
    for first in range(0, 40, 8):
        batch = sampler.batch(first, 8)
        assert len(batch.token_ids_T) == 8 * LENGTH and batch.layout.row_length == LENGTH
        assert all(len(starts_T) == 8 * LENGTH for starts_T in batch.marks.values())
        is_text_T = is_text(batch, marked)
        assert batch.num_text_tokens == int(is_text_T.sum())
        assert batch.num_real_tokens == int((batch.token_ids_T != vocabulary.pad_id).sum())
        begins = batch.layout.sequence_starts[:-1][batch.document_ids_S >= 0].long()
        assert (batch.token_ids_T[begins] == vocabulary.cls_id).all()
        # Padding at the end of rows alone.
        is_padding = (batch.token_ids_T == vocabulary.pad_id).view(8, LENGTH)
        assert (is_padding.long().diff(dim=1) >= 0).all()
        assert batch.marks[WORD][~is_text_T].all()


def test_an_epoch_holds_every_token_once(marked, case):
    if case["name"] == "pairs":
        case = {"name": "pairs", "swapped_fraction": 0.5, "random_fraction": 0.0}
    sampler, split = made(marked, case), marked.split("train")
    seen = text_of(sampler.batch(0, sampler.num_rows_per_epoch), marked)
    documents = np.arange(split.num_documents)
    every = split.gather_tokens(documents, np.zeros_like(documents), split.document_lengths)
    assert seen == Counter(every.token_ids.tolist())


@pytest.mark.parametrize("unit", ["sentence", "paragraph"])
def test_segments_begin_with_a_unit_or_go_on_with_one_that_is_too_long(marked, unit):
    batch = made(marked, {"name": "segments", "unit": unit}).batch(0, 60)
    firsts = batch.layout.sequence_starts[:-1][batch.document_ids_S >= 0].long() + 1
    begins_unit = batch.marks[unit][firsts]
    assert begins_unit.float().mean() > (0.99 if unit == "sentence" else 0.5)


def test_pairs_are_what_their_labels_say(marked):
    options = {"name": "pairs", "swapped_fraction": 0.3, "random_fraction": 0.4}
    sampler, split, vocabulary = made(marked, options), marked.split("train"), marked.vocabulary
    texts = []
    for document, length in enumerate(split.document_lengths):
        tokens = split.gather_tokens(np.array([document]), np.array([0]), np.array([length]))
        texts.append(" ".join(map(str, tokens.token_ids.tolist())))
    num_rows = sampler.num_rows_per_epoch
    batch = sampler.batch(0, num_rows)
    assert batch.labels_S is not None
    labels = batch.labels_S[batch.document_ids_S >= 0].tolist()
    assert set(batch.labels_S[batch.document_ids_S < 0].tolist()) <= {NO_LABEL}
    shares = [labels.count(label) / num_rows for label in (NEXT, SWAPPED, RANDOM)]
    assert shares == pytest.approx([0.3, 0.3, 0.4], abs=0.12)
    rows, segments = batch.token_ids_T.view(-1, LENGTH), batch.layout.segment_ids_T.view(-1, LENGTH)
    begins = batch.marks[SENTENCE].view(-1, LENGTH)
    num_at_sentences = 0
    for row, segment, begin, label in zip(rows, segments, begins, labels, strict=True):
        seps = (row == vocabulary.sep_id).nonzero().squeeze(1).tolist()
        first, second = row[1 : seps[0]].tolist(), row[seps[0] + 1 : seps[1]].tolist()
        assert first and second and len(seps) == 2
        assert segment[: seps[0] + 1].eq(0).all() and segment[seps[0] + 1 : seps[1] + 1].eq(1).all()
        joined = {NEXT: first + second, SWAPPED: second + first, RANDOM: first + second}[label]
        is_run = any(" ".join(map(str, joined)) in text for text in texts)
        assert is_run or label == RANDOM
        num_at_sentences += bool(begin[seps[0] + 1])
    assert num_at_sentences / num_rows > 0.8


def test_pairs_of_a_corpus_without_sentences_are_refused_before_anything_is_read(corpus):
    chosen = SAMPLERS.choose("pairs")
    with pytest.raises(CorpusError, match="prepare the text again, with this recipe"):
        chosen.plug_in(chosen.options, corpus.split("train"), corpus.vocabulary, LENGTH, 1)


def test_a_recipe_knows_the_marks_it_needs_and_what_goes_with_pairs(raw_recipe):
    raw = raw_recipe | {"phases": [{"sequence_length": 32, "sampler": "pairs"}]}
    assert parse_recipe(raw, "test").marks == MARKS
    assert parse_recipe(raw_recipe, "test").marks == (WORD,)
    atoms = {"objective": {"name": "mlsm"}, "sequence_length": 32, "sampler": "pairs"}
    with pytest.raises(RecipeError, match=r"phases\.1\.sampler: pairs makes sequences of several pieces"):
        parse_recipe(raw_recipe | {"phases": [{"sequence_length": 32}, atoms]}, "test")
    with pytest.raises(RecipeError, match="make more than 1"):
        too_much = {"name": "pairs", "swapped_fraction": 0.7, "random_fraction": 0.7}
        parse_recipe(raw_recipe | {"phases": [{"sequence_length": 32, "sampler": too_much}]}, "test")
