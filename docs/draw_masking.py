"""Draws docs/masking.svg: what each masking strategy hides in one paragraph. Takes a few minutes.

    .venv/bin/python docs/draw_masking.py

The tokenizer and the collocations are those of these pages; what `adaptive` and `self_evolution` know, a small encoder
has learned from them. One draw is shown, with the same random numbers for all, and below each token how often it was
hidden in many.
"""

import html
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskwright.batching.pack import pack_sequences
from maskwright.batching.row_plan import NUM_SPECIALS
from maskwright.batching.row_stream import RowStream
from maskwright.core.batches import WORD, CorruptedBatch, PackedBatch
from maskwright.core.discovery import load_plug_in, plug_in_names
from maskwright.core.files import write_text_atomically
from maskwright.core.randomness import torch_generator
from maskwright.corpus.config import DataConfig
from maskwright.corpus.corpus import Corpus, open_corpus
from maskwright.corpus.prepare import prepare
from maskwright.encoders import build_encoder
from maskwright.heads.vocabulary import VocabularyHead
from maskwright.masking.masking import STRATEGIES
from maskwright.masking.phase_start import PhaseStart
from maskwright.objectives.base import Objective
from maskwright.optim.optimizers import OptimizerConfig, Optimizers
from maskwright.optim.schedules import ScheduleConfig
from maskwright.tokenization.train_tokenizer import TokenizerConfig

DOCS = Path(__file__).parent
PARAGRAPH = (
    "Every random number is a function of the seed, its purpose and counters such as step and micro-batch. Nothing "
    "depends on what was drawn before, on the rank, or on the number of workers. So there is no generator to save, and "
    "the position of a run in its data is one integer, the step."
)
NUM_STEPS, ROW_LENGTH, RATE, NUM_DRAWS = 800, 64, 0.3, 400
LEARNING_RATE = 5e-3
WIDTH, LEFT, SIZE, LINE, BAR = 980, 150, 13, 38, 20


@dataclass
class Drawn:
    """The tokens of the paragraph, which of them a strategy hides, and how often in many draws."""

    name: str
    tokens: list[str]
    is_hidden: list[bool]
    shares: list[float]


def corpus_of_pages(folder: Path) -> Corpus:
    """Prepare these pages."""
    pages = [page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))]
    text = folder.with_suffix(".txt")
    text.write_text("\n\n".join(pages), encoding="utf-8")
    data = DataConfig(data=str(text), documents="paragraph")
    prepare(data, TokenizerConfig(vocabulary_size=1500), folder, 1)
    return open_corpus(folder, verify=False)


def drawn(name: str, options: dict[str, Any], corpus: Corpus, folder: Path) -> Drawn:
    """Train a small encoder with an objective, and let it hide tokens of the paragraph."""
    plug_in = load_plug_in("maskwright.objectives", options.pop("name"), Objective)
    shape = {"num_layers": 2, "hidden_size": 128, "num_heads": 4, "feed_forward_size": 192}
    encoder = build_encoder("modernbert", None, shape, corpus.vocabulary, max_positions=128, seed=1)
    head = VocabularyHead(encoder.config, seed=1)
    objective = plug_in(plug_in.Config.model_validate(options), encoder, corpus.vocabulary, head)
    start = PhaseStart(
        folder, corpus, ROW_LENGTH, NUM_STEPS, 1, torch.device("cpu"), torch.float32, 2048, False, True,
        lambda: None, lambda path: (_ for _ in ()).throw(NotImplementedError(path)),
    )  # fmt: skip
    objective.begin(encoder, start)
    if name in ("adaptive", "self_evolution"):
        train(objective, encoder, corpus)
    tokenizer = corpus.load_tokenizer()
    token_ids = tokenizer(PARAGRAPH, add_special_tokens=False)["input_ids"]
    paragraph = pack_sequences([torch.tensor(token_ids).numpy()], corpus.vocabulary, len(token_ids) + NUM_SPECIALS)
    tokens = tokenizer.convert_ids_to_tokens(paragraph.token_ids_T.tolist())
    begins = [not token.startswith("##") for token in tokens]
    paragraph = replace(paragraph, marks={WORD: torch.tensor(begins)})
    is_hidden_NT = torch.zeros(NUM_DRAWS, len(tokens))
    for draw in range(NUM_DRAWS):
        batch = hide(objective, encoder, paragraph, torch_generator(4, "picture", draw), 1 - 1 / NUM_STEPS)
        is_hidden_NT[draw, batch.questions["token"].positions_M[batch.questions["token"].targets >= 0]] = 1
    text = slice(1, -1)
    return Drawn(name, tokens[text], is_hidden_NT[0, text].bool().tolist(), is_hidden_NT.mean(0)[text].tolist())


def hide(objective: Objective, encoder: Any, batch: PackedBatch, generator: Any, progress: float) -> CorruptedBatch:
    """Corrupt a batch and complete it."""
    return objective.complete(encoder, objective.corrupt(batch, generator, progress))


def train(objective: Objective, encoder: Any, corpus: Corpus) -> None:
    """Make the steps of a phase."""
    stream = RowStream(corpus.split("train"), corpus.vocabulary, ROW_LENGTH, seed=1)
    root = nn.ModuleDict({"objective": objective, "encoder": encoder})
    optimizers = Optimizers(root, OptimizerConfig(name="muon"))
    schedule = ScheduleConfig()
    for step in range(NUM_STEPS):
        batch = hide(
            objective, encoder, stream.batch(32 * step, 32), torch_generator(1, "mask", step), step / NUM_STEPS
        )
        (term,) = objective.loss(encoder, batch)
        (term.total / term.count).backward()
        optimizers.clip()
        optimizers.step(LEARNING_RATE * schedule.factor(step / NUM_STEPS))
        objective.after_step(encoder, step + 1)


def svg(rows: list[Drawn]) -> str:
    """Return the picture: hidden tokens white on dark, the tokens of a word close together, bars for their shares."""
    parts, y = [], 10
    for row in rows:
        x, y = LEFT, y + LINE
        parts.append(f'<text x="10" y="{y}" font-weight="bold">{html.escape(row.name)}</text>')
        for token, is_hidden, share in zip(row.tokens, row.is_hidden, row.shares, strict=True):
            text = token.removeprefix("##")
            width = 8 * len(text) + 2
            x += 0 if token.startswith("##") or x == LEFT else 7
            if x + width > WIDTH - 10:
                x, y = LEFT, y + LINE
            bar = f'x="{x}" y="{y + 6}" width="{width - 1}" height="{BAR * share:.1f}"'
            parts.append(f'<rect {bar} fill="#e0a030"/>')
            if is_hidden:
                parts.append(f'<rect x="{x}" y="{y - 15}" width="{width - 1}" height="20" rx="2" fill="#1f4e79"/>')
            colour = "#fff" if is_hidden else "#333"
            parts.append(f'<text x="{x + 1}" y="{y}" fill="{colour}">{html.escape(text)}</text>')
            x += width
        y += 10
    style = f'font-family="monospace" font-size="{SIZE}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 10}" {style}>'
    body = "\n".join(parts)
    return f'{head}\n<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'


def main() -> None:
    """Draw all strategies, and self_evolution."""
    special = {"adaptive": {"refresh_steps": 20}, "pmi": {"least_count": 3}}
    with tempfile.TemporaryDirectory() as folder:
        corpus = corpus_of_pages(Path(folder, "corpus"))
        names = ["token", "whole_word", "span", "pmi", "frequency", "adaptive"]
        names += sorted({*plug_in_names(STRATEGIES)} - {*names})
        objectives = {
            name: {"name": "mlm", "rate": RATE, "strategy": {"name": name, **special.get(name, {})}} for name in names
        }
        objectives["self_evolution"] = {"name": "self_evolution", "rate": RATE}
        rows = [drawn(name, options, corpus, Path(folder)) for name, options in objectives.items()]
    write_text_atomically(DOCS / "masking.svg", svg(rows))


if __name__ == "__main__":
    main()
