"""The report shows what a phase hid, and escapes the text."""

import torch

from maskwright.core.masked_example import FILE, MaskedExample
from maskwright.core.randomness import torch_generator
from maskwright.core.records import RunFolder
from maskwright.objectives.mlm import Mlm
from maskwright.reports.gather import gather
from maskwright.reports.html import render
from maskwright.training.masked_example import write_masked_example


def test_a_row_is_written_as_it_was_hidden(corpus, batch, encoder, vocabulary, vocabulary_head, tmp_path):
    mlm = Mlm(Mlm.Config(strategy="span"), encoder, vocabulary, vocabulary_head)
    corrupted = mlm.corrupt(batch, torch_generator(0, "test"), 0.0)
    folder, tokenizer = RunFolder(tmp_path), corpus.load_tokenizer()
    write_masked_example(folder, 0, {"name": "mlm", "strategy": {"name": "span"}}, corrupted, tokenizer)
    example = MaskedExample.read(folder.phase(0) / FILE)
    row = batch.layout.row_length
    is_text = ~torch.isin(batch.token_ids_T[:row], torch.tensor(vocabulary.special_ids))
    assert (example.objective, example.strategy) == ("mlm", "span")
    assert tokenizer.convert_tokens_to_ids(example.tokens) == batch.token_ids_T[:row][is_text].tolist()
    is_masked = corrupted.input_ids_T[:row][is_text] == vocabulary.mask_id
    assert example.is_scored == is_masked.tolist() and any(example.is_scored)


def test_text_is_escaped(make_run):
    full_run = make_run()
    example = MaskedExample(objective="mlm", strategy="span", tokens=["<b>", "x"], is_scored=[True, False])
    example.write(RunFolder(full_run).phase(0) / FILE)
    page = render(gather(full_run))
    assert '<span class="hidden">&lt;b&gt;</span>' in page and "<span>x</span>" in page
    assert "Phase 1: mlm, span" in page
