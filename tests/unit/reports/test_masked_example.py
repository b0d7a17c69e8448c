"""The report shows what each phase hides in one paragraph, and escapes the text."""

import pytest
import torch

from maskwright.core.plug_in_field import Chosen
from maskwright.core.randomness import torch_generator
from maskwright.core.records.masked_example import FILE, MaskedExample
from maskwright.core.records.run import RunFolder
from maskwright.objectives.mlm import Mlm
from maskwright.reports.gather import gather
from maskwright.reports.html import render
from maskwright.tokenization.train_tokenizer import TokenizerConfig, train_tokenizer
from maskwright.training.watching.masked_example import (
    MOST_TOKENS,
    _as_in_text,
    beginning_of_a_document,
    write_masked_example,
)


def test_a_paragraph_is_written_as_it_was_hidden(corpus, encoder, vocabulary, vocabulary_head, tmp_path):
    mlm = Mlm(Mlm.Config(strategy="span"), encoder, vocabulary, vocabulary_head)
    clean = beginning_of_a_document(corpus, 48)
    corrupted = mlm.corrupt(clean, torch_generator(0, "test"), 0.0)
    folder, tokenizer = RunFolder(tmp_path), corpus.load_tokenizer()
    write_masked_example(folder, 0, Chosen("mlm", Mlm, mlm.config), corrupted, tokenizer)
    example = MaskedExample.read(folder.phase(0) / FILE)
    is_text = ~torch.isin(clean.token_ids_T, torch.tensor(vocabulary.special_ids))
    assert (example.objective, example.strategy) == ("mlm", "span")
    assert "".join(example.tokens) == tokenizer.decode(clean.token_ids_T[is_text])
    is_masked = corrupted.input.token_ids_T[is_text] == vocabulary.mask_id
    assert example.is_scored == is_masked.tolist() and any(example.is_scored)


@pytest.mark.parametrize("sequence_length", [16, 4 * MOST_TOKENS])
def test_the_paragraph_begins_a_document_and_is_one_row(corpus, sequence_length):
    split, batch = corpus.split("train"), beginning_of_a_document(corpus, sequence_length)
    document = int(batch.document_ids_S[0])
    length = min(sequence_length - 2, MOST_TOKENS - 2, int(split.document_lengths.max()))
    tokens = torch.from_numpy(split.gather_tokens(*([value] for value in (document, 0, length))).token_ids)
    assert batch.layout.row_length == len(batch.token_ids_T) <= MOST_TOKENS
    assert torch.equal(batch.token_ids_T[1 : length + 1], tokens)
    assert int(batch.document_starts_S[0]) == 0


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "bpe", "characters"])
def test_tokens_stand_as_in_the_text(kind):
    text = "The court's café heard 1963 appeals (of 19) — no more, no less."
    tokenizer = train_tokenizer([text] * 50, TokenizerConfig(kind=kind, vocabulary_size=300))
    token_ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    tokens = _as_in_text(token_ids, tokenizer)
    assert len(tokens) == len(token_ids)
    assert "".join(tokens).replace("\ufffd", "") == tokenizer.decode(token_ids)


def test_text_is_escaped(make_run):
    full_run = make_run()
    example = MaskedExample(objective="mlm", strategy="span", tokens=["<b>", " x", " "], is_scored=[True, False, False])
    example.write(RunFolder(full_run).phase(0) / FILE)
    page = render(gather(full_run))
    assert '<span class="hidden">&lt;b&gt;</span>' in page and "</span> <span>x</span> <span>␣</span>" in page
    assert "Phase 1: mlm, span" in page and "1 of 3 tokens" in page
