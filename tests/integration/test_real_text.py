"""The journey on real text, where the shared data folder lies beside the checkout; a few steps, no scores."""

import json
import lzma
from pathlib import Path

import pytest

from maskwright.core.records.corpus import CorpusManifest
from maskwright.core.records.run import RunRecord

DATA = Path(__file__).parents[3] / "shared" / "data"

pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="no shared data folder beside the checkout"),
]

RECIPE = """
name: real
tokenizer: {kind: KIND, vocabulary_size: 2000, sample_bytes: 400000}
encoder:
  family: modernbert
  size: null
  overrides: {num_layers: 2, hidden_size: 32, num_heads: 2, feed_forward_size: 48}
budget: {steps: 4}
phases: [{sequence_length: 64}]
batch: {tokens: 2048, micro_batch_tokens: 2048}
engine: {device: cpu, compile: "off"}
"""


def text_of(name: str, folder: Path) -> Path:
    """Return the beginning of a real corpus: an archive as it is, or JSON lines made of it."""
    if name == "hungarian novels":
        return DATA / "eltec_hun" / "valid.txt.xz"
    with lzma.open(DATA / "wikipedia_en" / "valid.txt.xz", "rt", encoding="utf-8", newline="\n") as file:
        articles = file.read(1_500_000).split("</doc>\n")[:-1]
    path = folder / "articles.jsonl"
    documents = [{"text": article.partition("\n")[2].strip()} for article in articles]
    path.write_text("".join(json.dumps(document) + "\n" for document in documents), encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "kind"), [("english articles", "wordpiece"), ("hungarian novels", "bpe")])
def test_the_journey_on_real_text(maskwright, tmp_path, name, kind):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("KIND", kind), encoding="utf-8")
    run = tmp_path / "run"
    ended = maskwright("train", recipe, "--data", text_of(name, tmp_path), "--run", run)
    assert ended.code == 0, ended.err
    record = RunRecord.read(run / "run.json")
    assert record.status == "finished"
    manifest = CorpusManifest.read(Path(record.corpus) / "manifest.json")
    assert manifest.audit.unknown_rate < 0.001
    assert manifest.splits["train"].num_words > 100_000
    result = record.result
    assert result is not None
    assert result.num_tokens >= 0.99 * record.plan.total_tokens
    assert (run / "report.html").exists()
