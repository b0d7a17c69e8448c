"""Every sampler: rows are a pure function of their number, of one shape, and hold the text of the split."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from maskwright.batching.samplers.mixture import rows_by_weight
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
REQUIRED: dict[str, dict[str, Any]] = {"mixture": {"weights": {"long.jsonl": 0.8, "*": 0.2}}}
"""Options of samplers that can't do without."""

CASES: list[dict[str, Any]] = [
    *({"name": name, **REQUIRED.get(name, {})} for name in plug_in_names(SAMPLERS.package)),
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

    for name, num_documents in (("long", 90), ("short", 30)):
        lines = [f'{{"text": "{document()}"}}\n' for _ in range(num_documents)]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    data = DataConfig(data=[str(folder / "long.jsonl"), str(folder / "short.jsonl")], held_out_fraction=0.1)
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
    if case["name"] == "mixture":
        pytest.skip("by weight, not once")
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


def mixture(marked, **options: Any):
    return made(marked, {"name": "mixture", "weights": {"long.jsonl": 0.8, "*": 0.2}, **options})


def test_a_mixture_keeps_to_its_weights_and_reads_each_text_through_before_again(marked):
    sampler, split = mixture(marked), marked.split("train")
    assert sampler.rows_per_block == [800, 200]
    is_short = np.arange(split.num_documents) >= split.documents_of_files[0]
    batch = sampler.batch(0, 1000)
    rows = batch.document_ids_S[batch.layout.sequence_index_T[::LENGTH].long()].numpy()
    assert is_short[rows].sum() == 200 and not is_short[rows[:20]].all()
    short = np.flatnonzero(is_short[rows])
    num_rows = sampler._streams[1].num_rows_per_epoch
    first = [sampler.batch(int(row), 1) for row in short[:num_rows]]
    seen = sum((text_of(each, marked) for each in first), Counter())
    documents = np.flatnonzero(is_short)
    every = split.gather_tokens(documents, np.zeros_like(documents), split.document_lengths[documents])
    assert seen == Counter(every.token_ids.tolist())


@pytest.mark.parametrize(("temperature", "share"), [(1.0, None), (1e9, 0.5)])
def test_temperature_lies_between_sizes_and_equal_shares(marked, temperature, share):
    sampler, split = mixture(marked, weights={"long.jsonl": 1, "*": 1}, temperature=temperature), marked.split("train")
    by_size = split.first_tokens[split.documents_of_files[0]] / split.first_tokens[-1]
    assert sampler.rows_per_block[0] / 1000 == pytest.approx(share or by_size, abs=0.002)


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"long.jsonl": 1, "x/*": 1}, "no pattern of the mixture matches"), ({"*": 1, "x": 1}, "matches no file")],
)
def test_a_mixture_of_what_is_not_there_is_refused(marked, weights, message):
    with pytest.raises(CorpusError, match=message):
        mixture(marked, weights=weights)


@pytest.mark.parametrize("weights", [[1, 1e-9], [1, 1, 1], [0.9, 0.1], [5, 3, 2, 1e-6, 1e-6]])
def test_rows_by_weight_are_a_thousand_and_none_is_left_out(weights):
    rows = rows_by_weight(np.array(weights, np.float64))
    assert sum(rows) == 1000 and min(rows) >= 1
    assert np.allclose(np.array(rows) / 1000, np.array(weights) / sum(weights), atol=0.003)


OTHER_VALUES: dict[str, list[Any]] = {
    "one_document_per_sequence": [True],
    "unit": ["paragraph"],
    "swapped_fraction": [0.1],
    "random_fraction": [0.4],
    "weights": [{"long.jsonl": 0.1, "*": 0.9}],
    "temperature": [1.0],
}
"""By name of an option, values other than the default; an option that is missing here fails the test."""


@pytest.mark.parametrize("name", plug_in_names(SAMPLERS.package))
def test_every_option_does_something(marked, name):
    base = {"name": name, **REQUIRED.get(name, {})}
    before = made(marked, base).batch(0, 500)
    for option in SAMPLERS.choose(base).plug_in.Config.model_fields:
        for value in OTHER_VALUES[option]:
            after = made(marked, base | {option: value}).batch(0, 500)
            assert not (
                torch.equal(before.token_ids_T, after.token_ids_T) and torch.equal(before.labels_S, after.labels_S)
            ), option


def test_a_text_of_a_mixture_goes_on_where_the_block_before_left_it(marked):
    text_R, row_R = mixture(marked)._rows(0, 2500)
    for text in range(2):
        rows = row_R[text_R == text]
        assert rows.tolist() == list(range(len(rows)))
