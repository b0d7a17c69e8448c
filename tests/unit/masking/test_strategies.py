"""Each masking strategy hides what its definition says, in the proportions it says."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import chisquare
from tests.conftest import phase_start_of

from maskwright.core.batches import WORD
from maskwright.core.discovery import load_plug_in, plug_in_names
from maskwright.core.errors import CorpusError, RecipeError
from maskwright.core.randomness import torch_generator
from maskwright.corpus.collocations import (
    CollocationOptions,
    collocations_file,
    find_collocations,
    prepare_collocations,
    read_collocations,
)
from maskwright.corpus.corpus import TokenSplit
from maskwright.corpus.marks import MarkedTokens
from maskwright.masking.masking import STRATEGIES, Masking, MaskingOptions, make_strategy
from maskwright.masking.phase_start import PhaseStart
from maskwright.masking.selection import select_positions, unit_order
from maskwright.masking.strategies.base import Strategy


@pytest.fixture
def start(corpus, tmp_path) -> PhaseStart:
    return phase_start_of(corpus, tmp_path, num_steps=20)


def masking(strategy, vocabulary, start, rate=0.3) -> Masking:
    part = Masking(MaskingOptions(strategy=strategy, rate=rate), vocabulary)
    part.strategy.begin(start)
    return part


def is_text_of(batch, vocabulary) -> torch.Tensor:
    return ~torch.isin(batch.token_ids_T, torch.tensor(vocabulary.special_ids))


@pytest.fixture(params=plug_in_names(STRATEGIES.package))
def any_masking(request, vocabulary, start) -> Masking:
    return masking(request.param, vocabulary, start)


def test_every_strategy_is_pure_and_keeps_the_budget_and_special_tokens(any_masking, batch, vocabulary):
    is_text_T, before = is_text_of(batch, vocabulary), batch.token_ids_T.clone()
    for seed in range(5):
        first, second = (any_masking(batch, is_text_T, torch_generator(seed, "test"), 0.5) for _ in range(2))
        assert torch.equal(first.positions, second.positions) and torch.equal(
            first.input.token_ids_T, second.input.token_ids_T
        )
        assert is_text_T[first.positions].all()
        assert (first.positions.diff() > 0).all()
        assert len(first.positions_M) == math.ceil(0.3 * len(is_text_T)) >= len(first.positions)
        assert len(first.positions) == pytest.approx(0.3 * int(is_text_T.sum()), abs=2)
        is_hidden = torch.zeros_like(is_text_T)
        is_hidden[first.positions] = True
        starts_T = any_masking.strategy.units(batch, is_text_T, torch_generator(seed, "test"), 0.5).starts_T
        unit_T = (starts_T | ~is_text_T).cumsum(0)[is_text_T]
        share = torch.bincount(unit_T, is_hidden[is_text_T].double()) / torch.bincount(unit_T).clamp(min=1)
        assert ((share == 0) | (share == 1)).all()
    assert torch.equal(batch.token_ids_T, before)


def test_units_never_cross_sequences_and_begin_with_words(batch, vocabulary, start):
    is_text_T = is_text_of(batch, vocabulary)
    for name in ("whole_word", "span", "pmi"):
        units = masking(name, vocabulary, start).strategy.units(batch, is_text_T, torch_generator(0, "test"), 0.0)
        after_special = torch.cat([torch.tensor([True]), ~is_text_T[:-1]]) & is_text_T
        assert units.starts_T[after_special].all()
        assert batch.marks["word"][units.starts_T].all()


def test_every_strategy_names_its_source():
    for name in plug_in_names(STRATEGIES.package):
        assert load_plug_in(STRATEGIES.package, name, Strategy).citation


def test_lengths_of_spans_are_geometric(corpus, vocabulary, start):
    """In long sequences of one-token words, where few spans are cut short."""
    num_words, num_rows = 2000, 4
    token = next(token for token in range(vocabulary.size) if token not in vocabulary.special_ids)
    from maskwright.batching.pack import pack_sequences

    batch = pack_sequences([np.full(num_words, token)] * num_rows, vocabulary, num_words + 2)
    is_text_T = is_text_of(batch, vocabulary)
    strategy = masking({"name": "span", "p": 0.2, "most_words": 10}, vocabulary, start).strategy
    lengths = []
    for seed in range(5):
        starts_T = strategy.units(batch, is_text_T, torch_generator(seed, "spans"), 0.0).starts_T
        for row in starts_T.view(num_rows, -1):
            begins = row.nonzero().squeeze(1)
            begins = begins[(begins > 0) & (begins <= num_words)]
            lengths += begins.diff().tolist()
    counts = np.bincount(lengths, minlength=11)[1:]
    expected = 0.2 * 0.8 ** np.arange(10)
    assert len(counts) == 10
    assert chisquare(counts, expected / expected.sum() * counts.sum()).pvalue > 0.01
    assert np.mean(lengths) == pytest.approx(3.8, abs=0.1)


def test_spans_start_anew_in_every_sequence(vocabulary, start):
    """The first span of a sequence has the lengths of any other: it is no rest of the one before."""
    from maskwright.batching.pack import pack_sequences

    token = next(token for token in range(vocabulary.size) if token not in vocabulary.special_ids)
    batch = pack_sequences([np.full(30, token)] * 400, vocabulary, 32)
    is_text_T = is_text_of(batch, vocabulary)
    strategy = masking("span", vocabulary, start).strategy
    starts_RL = strategy.units(batch, is_text_T, torch_generator(1, "spans"), 0.0).starts_T.view(-1, 32)
    assert starts_RL[:, 1].all()
    first = starts_RL[:, 2:].int().argmax(1) + 1
    expected = 0.2 * 0.8 ** np.arange(10)
    counts = torch.bincount(first, minlength=11)[1:].numpy()
    assert chisquare(counts, expected / expected.sum() * len(first)).pvalue > 0.01


def test_one_draw_is_in_proportion_to_the_weights():
    weights_T = torch.tensor([1.0, 2.0, 3.0, 6.0, 3.0, 9.0])
    starts_T = torch.tensor([True, True, True, True, False, True])  # a unit of two tokens, of mean weight 4.5
    is_eligible = torch.ones(6, dtype=torch.bool)
    generator = torch_generator(0, "weights")
    counts = torch.zeros(6)
    for _ in range(6000):
        order_T = unit_order(starts_T, weights_T, generator)
        counts[order_T.argmin()] += 1
        assert order_T[3] == order_T[4]
    expected = torch.tensor([1.0, 2.0, 3.0, 4.5, 9.0])
    assert chisquare(counts[[0, 1, 2, 3, 5]].numpy(), (expected / expected.sum() * 6000).numpy()).pvalue > 0.01
    single = torch.zeros(6)
    for _ in range(6000):
        single[select_positions(is_eligible, is_eligible, 1, generator, weights_T)] += 1
    assert chisquare(single.numpy(), (weights_T / weights_T.sum() * 6000).numpy()).pvalue > 0.01


def test_frequency_weights_are_a_power_of_the_counts(corpus, batch, vocabulary, start):
    strategy = masking({"name": "frequency", "power": 0.5}, vocabulary, start).strategy
    weights_T = strategy.units(batch, is_text_of(batch, vocabulary), torch_generator(0, "test"), 0.0).weights_T
    counts = np.maximum(corpus.unigram_counts_V, 1)[batch.token_ids_T.numpy()]
    np.testing.assert_allclose(weights_T.numpy(), 1 / np.sqrt(counts))


def text_tokens(vocabulary) -> list[int]:
    return [token for token in range(vocabulary.size) if token not in vocabulary.special_ids]


def test_pmi_hides_the_longest_collocations_whole(vocabulary, start):
    from maskwright.batching.pack import assemble
    from maskwright.batching.row_plan import pack_whole

    a, b, c, d, e = text_tokens(vocabulary)[:5]
    strategy = masking("pmi", vocabulary, start).strategy
    strategy.use([((a,), (b,)), ((a,), (b,), (c, d)), ((d,), (e,))])
    tokens = np.array([a, b, c, d, e, a, b, c, a, a, b])
    words = np.array([1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1], bool)  # "c d" is one word
    pieces = pack_whole(np.array([len(tokens)]), 16)
    batch = assemble(pieces, MarkedTokens(tokens, {WORD: words}), vocabulary, 16)
    starts = strategy.units(batch, is_text_of(batch, vocabulary), torch_generator(0, "test"), 0.0).starts_T
    #                          a     b      c      d      e     a     b      c     a     a     b
    assert starts[1:12].tolist() == [True, False, False, False, True, True, False, True, True, True, False]


def test_collocations_that_overlap_are_chosen_at_random(vocabulary, start):
    from maskwright.batching.pack import assemble
    from maskwright.batching.row_plan import pack_whole

    a, b, c = text_tokens(vocabulary)[:3]
    strategy = masking("pmi", vocabulary, start).strategy
    strategy.use([((a,), (b,)), ((b,), (c,))])
    tokens = MarkedTokens(np.array([a, b, c]), {WORD: np.ones(3, bool)})
    batch = assemble(pack_whole(np.array([3]), 8), tokens, vocabulary, 8)
    is_text_T = is_text_of(batch, vocabulary)
    seen = [
        tuple(strategy.units(batch, is_text_T, torch_generator(seed, "overlap"), 0.0).starts_T[1:4].tolist())
        for seed in range(200)
    ]
    counts = [seen.count((True, False, True)), seen.count((True, True, False))]
    assert sum(counts) == 200
    assert chisquare(counts).pvalue > 0.01


class Documents(TokenSplit):
    """A split of given documents, one token a word."""

    def __init__(self, documents: list[list[int]]) -> None:
        self._documents = documents
        self.num_documents = len(documents)
        self.document_lengths = np.array([len(each) for each in documents])
        self.first_tokens = np.concatenate([[0], np.cumsum(self.document_lengths)])

    def gather_tokens(self, document_ids, starts, lengths):
        tokens = np.concatenate([self._documents[index] for index in document_ids])
        return MarkedTokens(tokens, {WORD: np.ones(len(tokens), bool)})


def slow_information(documents: list[list[int]], words: tuple[int, ...], total: int) -> float:
    """PMI as the paper writes it: the least over all ways to cut."""

    def log_p(run: tuple[int, ...]) -> float:
        count = sum(tuple(each[i : i + len(run)]) == run for each in documents for i in range(len(each) - len(run) + 1))
        return math.log(count / total)

    n = len(words)
    found = []
    for cuts in range(1, 2 ** (n - 1)):
        borders = [0, *(i + 1 for i in range(n - 1) if cuts >> i & 1), n]
        pieces = [words[i:j] for i, j in itertools.pairwise(borders)]
        found.append(log_p(words) - sum(log_p(piece) for piece in pieces))
    return min(found)


def test_collocations_are_those_of_the_definition(monkeypatch):
    generator = np.random.default_rng(0)
    documents = [
        [token for _ in range(40) for token in ([1, 2, 3] if generator.random() < 0.2 else [generator.integers(1, 12)])]
        for _ in range(30)
    ]
    documents = [[int(token) for token in each] for each in documents]
    monkeypatch.setattr("maskwright.corpus.collocations.BLOCK_TOKENS", 300)  # several blocks
    options = CollocationOptions(num_collocations=40, most_words=4, least_count=4)
    is_wordlike_V = np.ones(12, bool)
    is_wordlike_V[11] = False
    found = find_collocations(Documents(documents), is_wordlike_V, options)
    total = sum(token != 11 for each in documents for token in each)
    assert len(found) > 10
    for each in found:
        words = tuple(word[0] for word in each.words)
        assert 11 not in words and each.count >= 4
        assert each.information == pytest.approx(slow_information(documents, words, total))
    triples = [each for each in found if len(each.words) == 3]
    assert triples[0].words == ((1,), (2,), (3,))
    assert len([each for each in found if len(each.words) == 2]) <= 20


def test_a_list_is_kept_beside_the_corpus_and_refused_for_another_tokenizer(corpus, vocabulary, start, tmp_path):
    options = CollocationOptions(num_collocations=100, least_count=2)
    path = prepare_collocations(corpus, options)
    assert path == collocations_file(corpus, options) and path.exists()
    found = read_collocations(path, vocabulary.sha256)
    assert found and json.loads(path.read_text().splitlines()[1])["text"].count(" ") == len(found[0].words) - 1
    with pytest.raises(CorpusError, match="another tokenizer"):
        read_collocations(path, "0" * 64)
    strategy = {"name": "pmi", "collocations": str(path)}
    masking(strategy, vocabulary, start)
    # Before any phase begins: theirs may come after hours of others.
    with pytest.raises(CorpusError, match="another tokenizer"):
        make_strategy(MaskingOptions(strategy=strategy).strategy, replace(vocabulary, sha256="0" * 64))
    nowhere = MaskingOptions(strategy={"name": "pmi", "collocations": str(tmp_path / "none")})
    with pytest.raises(CorpusError, match="does not exist"):
        make_strategy(nowhere.strategy, vocabulary)
    (tmp_path / "damaged").write_text("{}\n")
    with pytest.raises(CorpusError, match="no list of collocations"):
        read_collocations(tmp_path / "damaged", vocabulary.sha256)


@pytest.mark.parametrize("name", ["whole_word", "span", "pmi"])
def test_words_are_wanted_of_the_tokenizer(name, vocabulary):
    with pytest.raises(RecipeError, match="does not say where words begin"):
        Masking(MaskingOptions(strategy=name), replace(vocabulary, has_words=False))


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("spann", "did you mean 'span'"),
        ({"name": "span", "pp": 0.1}, "unknown key, did you mean 'p'"),
        ({"name": "span", "p": 0}, "greater than 0"),
        ({"p": 0.1}, "must be a name"),
        (3, "must be a name"),
        ({"name": "adaptive", "refresh_steps": 2}, "greater than 2"),
    ],
)
def test_strategies_that_make_no_sense_are_refused(strategy, message):
    with pytest.raises(ValidationError, match=message):
        MaskingOptions(strategy=strategy)


def test_options_are_filled_in():
    filled_in = MaskingOptions(strategy="span").model_dump(mode="json")
    assert filled_in["strategy"] == {"name": "span", "p": 0.2, "most_words": 10}
    assert MaskingOptions(**filled_in) == MaskingOptions(strategy="span")
    assert MaskingOptions(rate=0.2) == MaskingOptions(rate=0.2, strategy="token")
