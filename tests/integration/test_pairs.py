"""Sentence order is a sampler and one file with a term: from text to a model."""

import json
from pathlib import Path

import pytest
from tests.integration.conftest import written
from transformers import AutoModelForMaskedLM

from maskwright.core.records.corpus import CorpusManifest

TERM = '''"""Sentence order: asks [CLS] whether the second piece followed the first.

Source: Lan et al. 2020, ALBERT, arXiv:1909.11942, section 3.1.
"""

import torch.nn.functional as F
from torch import nn

from maskwright.core.batches import NO_LABEL, UNUSED, ask
from maskwright.objectives.terms.base import Term


class SentenceOrder(Term):
    """Whether two pieces stand in their order."""

    citation = "Lan et al. 2020, ALBERT, arXiv:1909.11942"
    needs_labels = True

    def __init__(self, config, encoder, vocabulary):
        super().__init__(config, encoder, vocabulary)
        self.classifier = nn.Linear(encoder.config.hidden_size, 2)

    def initialize(self, generator):
        nn.init.normal_(self.classifier.weight, std=0.02, generator=generator)
        nn.init.zeros_(self.classifier.bias)

    def ask(self, packed, corruption, generator, progress):
        has_label_S = packed.labels_S != NO_LABEL
        num_rows = len(packed.token_ids_T) // packed.layout.row_length
        return ask(packed.layout.sequence_starts[:-1][has_label_S].long(), packed.labels_S[has_label_S], num_rows)

    def loss(self, x_MD, question, heads):
        logits_M2 = self.classifier(x_MD).float()
        return self.answer(question, F.cross_entropy(logits_M2, question.targets, ignore_index=UNUSED, reduction="sum"))

    def logits_per_slot(self):
        return 2

    def flops_per_token(self, config, sequence_length, rate):
        return 12.0 * config.hidden_size / sequence_length
'''


@pytest.fixture
def recipe(raw_recipe, tmp_path) -> Path:
    """BERT with masks and sentence order, next to the file with the term."""
    (tmp_path / "order.py").write_text(TERM, encoding="utf-8")
    sentence = "The court ruled against company boats."
    text = "".join(
        json.dumps({"text": f"{sentence} He heard {n} judges. They paid nothing."}) + "\n" for n in range(80)
    )
    (tmp_path / "text.jsonl").write_text(text, encoding="utf-8")
    objective = {"name": "mlm", "terms": ["token", "order:SentenceOrder"]}
    raw = raw_recipe | {
        "data": {"data": str(tmp_path / "text.jsonl"), "held_out_fraction": 0.1},
        "encoder": raw_recipe["encoder"] | {"family": "bert"},
        "phases": [{"objective": objective, "sequence_length": 32, "sampler": "pairs"}],
        "budget": {"steps": 4},
        "checkpoints": {"every_steps": 2, "every_minutes": None},
    }
    return written(tmp_path / "recipe.yaml", raw)


def test_sentence_order_is_trained_beside_masks(maskwright, recipe, tmp_path):
    said = maskwright("train", recipe, "--run", tmp_path / "whole")
    assert said.code == 0, said.err
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert all(0.4 < line["SentenceOrder"] < 1.2 and line["token"] > 1 for line in lines)
    (manifest,) = tmp_path.glob("corpora/*/manifest.json")
    assert CorpusManifest.read(manifest).marks == ["word", "sentence", "paragraph"]
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "whole" / "model")
    assert type(model).__name__ == "BertForMaskedLM"


def test_a_corpus_without_sentences_is_refused_before_the_first_step(maskwright, recipe, corpus, tmp_path):
    said = maskwright("train", recipe, "--run", tmp_path / "run", "--corpus", corpus.folder)
    assert said.code != 0 and "prepare the text again" in said.err
    assert len(said.err.splitlines()) <= 6


def test_a_term_that_asks_for_labels_needs_a_sampler_that_gives_them(maskwright, recipe, tmp_path):
    said = maskwright("train", recipe, "--run", tmp_path / "run", "--set", "phases.0.sampler=documents")
    assert said.code == 78
    assert "phases.0.sampler: documents gives no labels" in said.err and "such as pairs" in said.err
