"""Which tokens are hidden, that nothing is lost, and what the baseline scores."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.batching.pack import pack_sequences
from maskwright.core.batches import WORD
from maskwright.core.errors import EvaluationError
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.config import DataConfig
from maskwright.corpus.corpus import open_corpus
from maskwright.corpus.marks import MarkedTokens
from maskwright.corpus.prepare import prepare
from maskwright.evaluation.probes import ClozeProbe
from maskwright.evaluation.scorer import MaskedLanguageModel
from maskwright.evaluation.tasks.held_out import HeldOut, HeldOutClozes, unigram_scores
from maskwright.evaluation.tasks.word_order import WordOrder
from maskwright.tokenization.train_tokenizer import TokenizerConfig, train_tokenizer

VOCABULARY = Vocabulary(50, 0, 2, 3, 4, 1, (0, 1, 2, 3, 4), "")


class Documents:
    """A split whose tokens tell their place."""

    def __init__(self, lengths: list[int], seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.documents = [generator.integers(1, VOCABULARY.size, length) for length in lengths]
        self.num_documents = len(lengths)
        self.document_lengths = np.array(lengths, dtype=np.int64)
        self.first_tokens = np.concatenate([[0], np.cumsum(lengths)])

    def gather_tokens(self, document_ids, starts, lengths):
        pieces = zip(document_ids, starts, lengths, strict=True)
        tokens = np.concatenate([self.documents[document][start : start + size] for document, start, size in pieces])
        return MarkedTokens(tokens, {WORD: np.ones(len(tokens), bool)})


def hidden_by_document(split: Documents, clozes: HeldOutClozes) -> dict[int, list[int]]:
    """Return the hidden positions of each document, by putting the sequences back together."""
    places = zip(clozes._documents, clozes._starts, clozes._ends, strict=True)
    remaining = iter(clozes)
    found: dict[int, list[int]] = {}
    cloze = next(remaining, None)
    for document, start, end in places:
        clean = split.documents[document][start:end]
        if cloze is None or len(cloze.token_ids) != len(clean):
            continue
        restored = cloze.token_ids.copy()
        restored[cloze.positions] = cloze.target_ids
        if not np.array_equal(restored, clean):
            continue
        found.setdefault(int(document), []).extend((cloze.positions + start).tolist())
        cloze = next(remaining, None)
    assert cloze is None
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=8), st.integers(3, 40), st.integers(0, 3))
def test_no_token_is_lost_and_no_sequence_too_long(lengths: list[int], sequence_length: int, seed: int):
    clozes = HeldOutClozes(Documents(lengths), VOCABULARY, sequence_length, seed)
    sizes = clozes._ends - clozes._starts
    assert sizes.min() >= 1
    assert sizes.max() <= sequence_length - 2
    assert clozes.num_tokens == sum(lengths)
    covered = Counter(zip(clozes._documents.tolist(), clozes._ends.tolist(), strict=True))
    assert all((document, length) in covered for document, length in enumerate(lengths))


def test_hidden_tokens_depend_on_seed_and_document_only():
    lengths = [100, 3, 41, 260, 1]
    split = Documents(lengths)
    expected = hidden_by_document(split, HeldOutClozes(split, VOCABULARY, 512, seed=7))
    for sequence_length in (16, 33, 128):
        assert hidden_by_document(split, HeldOutClozes(split, VOCABULARY, sequence_length, seed=7)) == expected
    for document, positions in expected.items():
        eligible = sum(token not in VOCABULARY.special_ids for token in split.documents[document])
        assert len(positions) == max(1, round(0.15 * eligible))
        assert not set(split.documents[document][positions]) & set(VOCABULARY.special_ids)
    assert hidden_by_document(split, HeldOutClozes(split, VOCABULARY, 512, seed=8)) != expected


def test_a_sample_hides_the_same_tokens_as_the_whole():
    split = Documents([30] * 40)
    whole = hidden_by_document(split, HeldOutClozes(split, VOCABULARY, 64, seed=1))
    sample = HeldOutClozes(split, VOCABULARY, 64, seed=1, max_tokens=310)
    assert sample.num_tokens == 300
    of_sample = hidden_by_document(split, sample)
    assert len(of_sample) == 10
    assert all(whole[document] == positions for document, positions in of_sample.items())
    assert of_sample != hidden_by_document(split, HeldOutClozes(split, VOCABULARY, 64, seed=2, max_tokens=310))


def test_a_document_of_special_tokens_asks_nothing():
    split = Documents([4, 9])
    split.documents[0][:] = VOCABULARY.unk_id
    clozes = list(HeldOutClozes(split, VOCABULARY, 32, seed=1))
    assert len(clozes) == 1
    assert len(clozes[0].token_ids) == 9


def test_the_unigram_baseline_equals_counting_by_hand():
    train = [5, 5, 5, 5, 9, 9, 9, 7, 7, 11, 1, 1, 1, 1, 1, 1]
    targets = [5, 9, 13, 11, 49]
    counts = Counter(train)
    text_tokens = [token for token in range(VOCABULARY.size) if token not in VOCABULARY.special_ids]
    total = sum(counts[token] + 1 for token in text_tokens)
    by_frequency = sorted(text_tokens, key=lambda token: (-counts[token], token))
    scores = unigram_scores(np.bincount(train, minlength=50), VOCABULARY.special_ids, np.array(targets))
    np.testing.assert_allclose(scores.nats, [-math.log((counts[target] + 1) / total) for target in targets])
    assert scores.ranks.tolist() == [by_frequency.index(target) for target in targets]


def test_the_task_gives_means_sums_baseline_and_examples(model: MaskedLanguageModel, corpus, make_subject):
    subject = make_subject(model, corpus)
    task = HeldOut(HeldOut.Config(num_examples=3))
    result = task.evaluate(subject, seed=3)
    scores = result.scores
    assert scores["cross_entropy"] == pytest.approx(scores["sum_nats"] / scores["num_scored_tokens"])
    assert scores["top1_accuracy"] == scores["sum_top1_correct"] / scores["num_scored_tokens"]
    assert 0 <= scores["top1_accuracy"] <= scores["top5_accuracy"] <= 1
    assert 0 < result.baselines["unigram"]["cross_entropy"] < math.log(model.vocabulary.size)
    assert len(result.examples) == 3
    assert result.items is not None
    assert task.scores(result.items) == scores
    columns = {name: column for name, column in result.items.columns.items() if name != "num_text_bytes"}
    of_earlier_version = task.scores(replace(result.items, columns=columns))
    assert of_earlier_version == {name: score for name, score in scores.items() if name != "bits_per_byte"}
    again = task.evaluate(subject, seed=3)
    assert again.model_dump() == result.model_dump()
    assert task.evaluate(subject, seed=4).scores != scores


def test_clean_tokens_stand_first_and_bits_per_byte_are_those_by_hand(tmp_path: Path, make_model, make_subject):
    random = np.random.default_rng(0)
    parts = ["".join(random.choice(list("aáeő \N{SNOWMAN}"), random.integers(10, 40))) for _ in range(16)]
    texts = ["x" + "".join(random.choice(parts, 2)) + "y" for _ in range(150)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    data = DataConfig(data=str(tmp_path / "texts.jsonl"), held_out_fraction=0.2)
    prepare(data, TokenizerConfig(kind="characters"), tmp_path / "corpus", 0)
    corpus = open_corpus(tmp_path / "corpus", verify=True)
    tokenizer, split = corpus.load_tokenizer(), corpus.split("held_out")
    model = make_model(tokenizer, max_positions=90)
    clean, everything, num_bytes = [], [], 0
    for document, cloze in enumerate(HeldOutClozes(split, corpus.vocabulary, 90, seed=1)):
        whole = cloze.token_ids.copy()
        whole[cloze.positions] = cloze.target_ids
        text = tokenizer.decode(whole)
        assert len(text) == len(whole) == split.document_lengths[document]
        num_bytes += len(text.encode())
        (scores,) = model.score([cloze])
        everything += scores.nats.tolist()
        is_shared = split.is_shared[split.first_tokens[document] :][cloze.positions]
        clean += scores.nats[~is_shared].tolist()
    assert 0.1 < len(clean) / len(everything) < 0.9
    subject = make_subject(model, corpus)
    assert WordOrder().data_sha256(subject)["shared_runs"] == corpus.manifest.shared_runs.sha256
    result = HeldOut(HeldOut.Config(num_examples=0)).evaluate(subject, seed=1)
    scores = result.scores
    assert list(scores)[:4] == ["clean_cross_entropy", "clean_top1_accuracy", "clean_top5_accuracy", "cross_entropy"]
    assert scores["clean_cross_entropy"] == pytest.approx(np.mean(clean))
    assert scores["num_clean_scored_tokens"] == len(clean)
    assert scores["cross_entropy"] == pytest.approx(np.mean(everything))
    bits = np.mean(everything) / math.log(2) * split.first_tokens[-1] / num_bytes
    assert scores["bits_per_byte"] == pytest.approx(bits)
    assert f"{corpus.manifest.shared_fraction:.1%}" in result.notes[0]
    assert result.baselines["unigram"]["clean_cross_entropy"] > 0
    probed = ClozeProbe(corpus, 90, seed=1)(model.encoder, model.head)
    assert probed["held_out_clean_cross_entropy"] == pytest.approx(np.mean(clean))
    split.is_shared[:] = True
    assert "clean_cross_entropy" not in ClozeProbe(corpus, 90, seed=1)(model.encoder, model.head)


def test_a_model_that_knows_the_text_scores_full_marks(model: MaskedLanguageModel, corpus, make_subject, monkeypatch):
    clozes = iter(
        np.concatenate(
            [cloze.target_ids for cloze in HeldOutClozes(corpus.split("held_out"), corpus.vocabulary, 64, 1)]
        )
    )

    def knowing(x_MD: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        targets = torch.tensor([next(clozes) for _ in range(len(x_MD))])
        return 100.0 * torch.nn.functional.one_hot(targets, model.vocabulary.size)

    monkeypatch.setattr(model.head, "forward", knowing)
    scores = HeldOut(HeldOut.Config(num_examples=0)).evaluate(make_subject(model, corpus), seed=1).scores
    assert scores["top1_accuracy"] == 1
    assert scores["cross_entropy"] < 1e-6


def test_a_corpus_of_another_tokenizer_is_refused(corpus, make_model, make_subject):
    other = train_tokenizer(["quite another text"] * 3, TokenizerConfig(vocabulary_size=60))
    with pytest.raises(EvaluationError, match="another tokenizer"):
        HeldOut().evaluate(make_subject(make_model(other), corpus), seed=1)


def test_the_probe_asks_the_same_each_time_and_changes_nothing(model: MaskedLanguageModel, corpus):
    probe = ClozeProbe(corpus, sequence_length=32, seed=3, max_tokens=150)
    model.encoder.train()
    state = torch.get_rng_state()
    weights = {name: weight.clone() for name, weight in model.encoder.state_dict().items()}
    first = probe(model.encoder, model.head)
    metrics = ("cross_entropy", "top1_accuracy", "top5_accuracy", "bits_per_byte")
    assert set(first) == {f"held_out_{metric}" for metric in metrics}
    assert probe(model.encoder, model.head) == first
    assert model.encoder.training
    assert torch.equal(torch.get_rng_state(), state)
    for name, weight in model.encoder.state_dict().items():
        torch.testing.assert_close(weight, weights[name], rtol=0, atol=0)


def test_training_goes_on_after_a_probe(model: MaskedLanguageModel, corpus):
    ClozeProbe(corpus, sequence_length=32, seed=3)(model.encoder, model.head)
    batch = pack_sequences([np.arange(5, 25)], model.vocabulary, 32)
    x_TD = model.encoder(batch.input)
    model.head(x_TD, model.encoder.embedding_weight_VE).sum().backward()
    assert model.encoder.embedding_weight_VE.grad is not None
