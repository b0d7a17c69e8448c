"""Every mode equals a slow implementation straight on transformers; batching and sharing of copies change nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.evaluation.conftest import SENTENCES
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast

from maskwright.core.errors import EvaluationError
from maskwright.evaluation import pseudo_likelihood
from maskwright.evaluation.pseudo_likelihood import pseudo_log_likelihoods, tokenize
from maskwright.evaluation.scorer import Cloze, ClozeScores, MaskedLanguageModel
from maskwright.export.folder import export_model
from maskwright.tokenization.folder import save_tokenizer

MODES = ("original", "within_word_l2r", "mntp")
TEXTS = [
    *SENTENCES,
    "The court dismissed the appeal.",
    "The court dismissed the appeals.",
    "Unbelievable zebras!",
    "walkedown bakers doors",
    "dog",
    "the the the the",
    "The court dismissed the appeal.",
    "What did you get?\nI got a chair.",
    "A [MASK] of words [SEP].",
]


def slow_score(folder: Path, text: str, mode: str) -> float:
    """Score one sentence as the sources describe it: its masked copies as one batch, all logits, log-softmax, sum."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    encoded = tokenizer(text, split_special_tokens=True)
    token_ids, words = encoded["input_ids"], encoded.word_ids()
    copies, read_at = [], []
    for position in range(1, len(token_ids) - 1):
        copy = list(token_ids)
        copy[position] = tokenizer.mask_token_id
        if mode == "within_word_l2r":
            for later in range(position + 1, len(token_ids) - 1):
                if words[later] == words[position]:
                    copy[later] = tokenizer.mask_token_id
        copies.append(copy)
        read_at.append(position - 1 if mode == "mntp" else position)
    with torch.no_grad():
        log_probabilities = model(torch.tensor(copies)).logits.log_softmax(dim=-1)
    return sum(log_probabilities[n, read_at[n], token_ids[n + 1]].item() for n in range(len(copies)))


@pytest.fixture(scope="module", params=["modernbert", "bert", "roberta"])
def folder(request: pytest.FixtureRequest, tmp_path_factory, make_model, any_tokenizer) -> Path:
    """A native export, and models as transformers saves them; each with three kinds of tokenizers."""
    place = tmp_path_factory.mktemp("models") / request.param
    if request.param == "modernbert":
        model = make_model(any_tokenizer)
        export_model(model.encoder, {"vocabulary": model.head}, any_tokenizer, place)
        return place
    config = AutoConfig.for_model(
        request.param,
        vocab_size=len(any_tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=66 + any_tokenizer.pad_token_id,
        pad_token_id=any_tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        theirs = AutoModelForMaskedLM.from_config(config)
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    theirs.save_pretrained(place)
    save_tokenizer(any_tokenizer, place)
    return place


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_equals_the_slow_implementation(folder: Path, mode):
    model = MaskedLanguageModel.from_folder(folder, torch.device("cpu"))
    log_likelihoods, work = pseudo_log_likelihoods(model, tokenize(model.tokenizer, TEXTS), mode)
    expected = [slow_score(folder, text, mode) for text in TEXTS]
    np.testing.assert_allclose(log_likelihoods, expected, rtol=0, atol=1e-4)
    assert log_likelihoods[5] == log_likelihoods[11]
    assert work.num_forward_passes < work.num_copies
    assert len({round(value, 3) for value in expected}) > 8


def test_the_modes_differ_where_words_have_several_tokens(make_model, any_tokenizer):
    model = make_model(any_tokenizer)
    sentences = tokenize(model.tokenizer, ["walkedown bakers doors"])
    assert len(set(sentences.words)) < len(sentences.token_ids)
    assert len({pseudo_log_likelihoods(model, sentences, mode)[0][0] for mode in MODES}) == 3


WORDS = ["the", "dog", "court", "bridge", "slept", "zebra", "appeals"]
TEXT_LISTS = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join), min_size=1, max_size=8)


@settings(max_examples=25, deadline=None)
@given(
    texts=TEXT_LISTS,
    mode=st.sampled_from(MODES),
    chunk_tokens=st.integers(1, 200),
    tokens_per_batch=st.integers(1, 200),
    seed=st.integers(0, 5),
)
def test_sharing_sorting_and_chunks_change_no_score(texts, mode, chunk_tokens, tokens_per_batch, seed):
    model: MaskedLanguageModel = MODEL.model
    alone = [pseudo_log_likelihoods(model, tokenize(model.tokenizer, [text]), mode)[0][0] for text in texts]
    order = np.random.default_rng(seed).permutation(len(texts))
    before = pseudo_likelihood.CHUNK_TOKENS, model.tokens_per_batch
    try:
        pseudo_likelihood.CHUNK_TOKENS, model.tokens_per_batch = chunk_tokens, tokens_per_batch
        advances: list[float] = []
        sentences = tokenize(model.tokenizer, [texts[index] for index in order])
        together, work = pseudo_log_likelihoods(model, sentences, mode, advances.append)
    finally:
        pseudo_likelihood.CHUNK_TOKENS, model.tokens_per_batch = before
    np.testing.assert_allclose(together, np.array(alone)[order], rtol=0, atol=1e-5)
    assert sum(advances) == pytest.approx(work.num_copies)


class MODEL:
    """The model of the hypothesis test, which can't take a fixture that is made anew for every test."""

    model: MaskedLanguageModel


@pytest.fixture(autouse=True, scope="module")
def _model_for_hypothesis(make_model: Callable[..., MaskedLanguageModel], tokenizer: PreTrainedTokenizerFast) -> None:
    MODEL.model = make_model(tokenizer)


def test_equal_copies_go_through_the_model_once(model: MaskedLanguageModel, monkeypatch):
    seen: list[tuple[int, ...]] = []
    score = model.score

    def watched(clozes, with_ranks=True):
        def noted():
            for cloze in clozes:
                seen.append(tuple(cloze.token_ids.tolist()))
                yield cloze

        return score(noted(), with_ranks)

    monkeypatch.setattr(model, "score", watched)
    texts = ["the dog slept", "the court slept", "the dog slept", "a small brown dog"]
    sentences = tokenize(model.tokenizer, texts)
    assert sentences.lengths[0] == sentences.lengths[1] == 3
    _, work = pseudo_log_likelihoods(model, sentences)
    assert len(seen) == len(set(seen)) == work.num_forward_passes
    # Of the two sentences with one different word, one copy of three is the same.
    assert work.num_copies == 3 + 3 + 3 + sentences.lengths[3]
    assert work.num_forward_passes == 3 + 2 + sentences.lengths[3]
    assert [len(copy) for copy in seen] == sorted(map(len, seen), reverse=True)


def test_memory_is_bounded_by_the_chunk(model: MaskedLanguageModel, monkeypatch):
    sizes: list[int] = []
    made = pseudo_likelihood.mask_each_token

    def watched(*arguments):
        copies = made(*arguments)
        sizes.append(copies.size)
        return copies

    monkeypatch.setattr(pseudo_likelihood, "mask_each_token", watched)
    monkeypatch.setattr(pseudo_likelihood, "CHUNK_TOKENS", 500)
    monkeypatch.setattr(model, "score", lambda clozes, with_ranks: iter([zeros(list(clozes))]))
    sentences = tokenize(model.tokenizer, SENTENCES * 40)
    pseudo_log_likelihoods(model, sentences)
    assert sum(sizes) == int((sentences.lengths**2).sum())
    assert max(sizes) <= 500


def zeros(clozes: list[Cloze]) -> ClozeScores:
    targets = np.concatenate([cloze.target_ids for cloze in clozes])
    return ClozeScores(targets, np.zeros(len(targets)), targets[:0], np.zeros(0))


def test_long_sentences_are_cut_and_counted(make_model, tokenizer):
    model = make_model(tokenizer, max_positions=8)
    sentences = tokenize(tokenizer, ["the dog slept", SENTENCES[1]], model.max_tokens)
    assert sentences.is_truncated.tolist() == [False, True]
    assert sentences.lengths.tolist() == [3, 6]
    kept = tokenizer(SENTENCES[1], add_special_tokens=False)["input_ids"][:6]
    assert sentences.token_ids[3:].tolist() == kept
    assert np.isfinite(pseudo_log_likelihoods(model, sentences)[0]).all()


def test_a_leading_space_matters_to_byte_level_tokenizers_only(any_tokenizer):
    with_space, without = (tokenize(any_tokenizer, ["dog"], leading_space=leading) for leading in (True, False))
    is_byte_level = "Ġ" in "".join(any_tokenizer.get_vocab())
    assert (with_space.token_ids.tolist() != without.token_ids.tolist()) == is_byte_level


def test_text_is_normalised_and_never_a_special_token(model: MaskedLanguageModel):
    composed, decomposed = (tokenize(model.tokenizer, [text]) for text in ("caf\u00e9", "cafe\u0301"))
    assert composed.token_ids.tolist() == decomposed.token_ids.tolist()
    assert model.vocabulary.mask_id not in tokenize(model.tokenizer, ["a [MASK] here"]).token_ids


def test_a_text_without_tokens_is_refused(model: MaskedLanguageModel):
    with pytest.raises(EvaluationError, match=r"no token of '\\u200b'"):
        tokenize(model.tokenizer, ["the dog", "\u200b"])
    assert len(pseudo_log_likelihoods(model, tokenize(model.tokenizer, []))[0]) == 0
