"""Measure training speed beside Hugging Face: the same real text, sizes, mask rate and cores, in turn in one run.

    pip install 'maskwright[benchmarks]'
    python benchmarks/throughput.py CORPUS --record benchmarks/records/<date>_throughput.json

CORPUS is a prepared corpus (`maskwright prepare`) with a vocabulary of 16,384. Every contestant has 6 layers, 256 wide,
sequences of 128, batches of 64, 15 % of the tokens scored, 80/10/10, AdamW:

- trainer_bert: `Trainer` + `BertForMaskedLM` as run_mlm.py sets them up: float32, eager, text in chunks of 128;
- trainer_bert_tuned: the same with bf16 and torch.compile, what its options offer;
- modernbert_best: `ModernBertForMaskedLM` with sparse_prediction, bf16 autocast, compiled, in a bare loop whose batches
  are made beforehand;
- ours_bert, ours_modernbert: our engine with its loader, clipping and optimizer, compiled.

Each round runs every contestant once for some steps; a first round is thrown away. Ratios are taken round by round.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import transformers
from contestants import BareLoop, Contestant, Engine, modernbert_config, recipe_of
from torch.utils.data import Dataset

from maskwright.batching.row_plan import NUM_SPECIALS
from maskwright.batching.row_stream import RowStream
from maskwright.core.hardware import environment, matmul_flops_per_second
from maskwright.corpus.corpus import Corpus, open_corpus
from maskwright.encoders import build_config
from maskwright.encoders.flops import flops_per_token

LAYERS, WIDTH, HEADS, LENGTH, BATCH, RATE = 6, 256, 4, 128, 64, 0.15
BERT_FEED_FORWARD, MODERNBERT_FEED_FORWARD = 1024, 384
TOKENS = LENGTH * BATCH


class Chunks(Dataset):
    """Documents joined and cut into chunks, as run_mlm.py's group_texts does; no padding."""

    def __init__(self, corpus: Corpus, num_chunks: int) -> None:
        """Read enough documents for `num_chunks`."""
        split, vocabulary = corpus.split("train"), corpus.vocabulary
        room = LENGTH - 2
        text: list[np.ndarray] = []
        for document in range(split.num_documents):
            one = np.array([document])
            text.append(split.gather_tokens(one, np.array([0]), split.document_lengths[one]).token_ids)
            if sum(map(len, text)) > num_chunks * room:
                break
        flat = np.concatenate(text)
        self.rows = [
            torch.from_numpy(
                np.concatenate([[vocabulary.cls_id], flat[start : start + room], [vocabulary.sep_id]]).astype(np.int64)
            )
            for start in range(0, num_chunks * room, room)
        ]

    def __len__(self) -> int:
        """How many chunks there are."""
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Return one chunk."""
        return {"input_ids": self.rows[index]}


def bert_config(vocabulary_size: int, pad_id: int) -> transformers.BertConfig:
    """Return the size of the comparison."""
    return transformers.BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=BERT_FEED_FORWARD,
        max_position_embeddings=LENGTH,
        pad_token_id=pad_id,
    )


def trainer_bert(corpus: Corpus, is_tuned: bool) -> Contestant:
    """`Trainer` with its collator; the time is that of the steps, set-up left out."""
    chunks = Chunks(corpus, 40 * BATCH)
    collator = transformers.DataCollatorForLanguageModeling(corpus.load_tokenizer(), mlm_probability=RATE)
    model = transformers.BertForMaskedLM(bert_config(corpus.vocabulary.size, corpus.vocabulary.pad_id))
    folder = tempfile.mkdtemp()

    class Clock(transformers.TrainerCallback):
        """Notes when each step ended."""

        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, args, state, control, **kwargs) -> None:
            self.ends.append(time.perf_counter())

    def run(num_steps: int) -> float:
        clock = Clock()
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            max_steps=num_steps + 1,
            save_strategy="no",
            report_to="none",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            bf16=is_tuned,
            torch_compile=is_tuned,
        )
        transformers.Trainer(
            model=model, args=arguments, data_collator=collator, train_dataset=chunks, callbacks=[clock]
        ).train()
        return num_steps * TOKENS / (clock.ends[-1] - clock.ends[0])

    return run


def modernbert_best(corpus: Corpus) -> BareLoop:
    """A bare loop around `ModernBertForMaskedLM`; making the batches costs it nothing."""
    vocabulary = corpus.vocabulary
    config = modernbert_config(vocabulary, dimensions_of(MODERNBERT_FEED_FORWARD), LENGTH)
    model = transformers.ModernBertForMaskedLM(config)
    chunks = Chunks(corpus, 4 * BATCH)
    collator = transformers.DataCollatorForLanguageModeling(corpus.load_tokenizer(), mlm_probability=RATE)
    batches = [
        collator([chunks[index] for index in range(first, first + BATCH)]) for first in range(0, 4 * BATCH, BATCH)
    ]
    for batch in batches:
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    # The same number of scored tokens in every batch, so that it need not compile anew for each.
    fewest = min(int((batch["labels"] != -100).sum()) for batch in batches)
    for batch in batches:
        flat = batch["labels"].view(-1)
        flat[(flat != -100).nonzero().squeeze(1)[fewest:]] = -100
    return BareLoop(model, batches, torch.device("cpu"), torch.bfloat16)


def ours(corpus: Corpus, family: str, feed_forward_size: int) -> Engine:
    """Our engine: loader, corruption, step, clipping, optimizer."""
    objective = {"name": "mlm", "rate": RATE, "mask_fraction": 0.8, "random_fraction": 0.1, "kept_fraction": 0.1}
    recipe = recipe_of(family, dimensions_of(feed_forward_size), LENGTH, TOKENS, objective)
    return Engine(recipe, corpus, torch.device("cpu"), torch.bfloat16)


def dimensions_of(feed_forward_size: int) -> dict[str, int]:
    """Return the size of the comparison, for our encoders."""
    return {
        "num_layers": LAYERS,
        "hidden_size": WIDTH,
        "num_heads": HEADS,
        "feed_forward_size": feed_forward_size,
    }


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    corpus = open_corpus(arguments.corpus, verify=False)
    peak = matmul_flops_per_second(torch.device("cpu"), torch.bfloat16, seconds=2)
    contestants: dict[str, Contestant] = {
        "trainer_bert": trainer_bert(corpus, is_tuned=False),
        "trainer_bert_tuned": trainer_bert(corpus, is_tuned=True),
        "modernbert_best": modernbert_best(corpus),
        "ours_bert": ours(corpus, "bert", BERT_FEED_FORWARD),
        "ours_modernbert": ours(corpus, "modernbert", MODERNBERT_FEED_FORWARD),
    }
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for round_number in range(arguments.rounds + 1):
        for name, run in contestants.items():
            with warnings.catch_warnings(), contextlib.redirect_stdout(None):
                warnings.simplefilter("ignore")
                speed = run(arguments.steps)
            if round_number:
                speeds[name].append(round(speed, 1))
            print(f"round {round_number} {name}: {speed:,.0f} tokens/s", flush=True)
    waited_shares = {
        name.removeprefix("ours_"): max(engine.waited_shares[1:])
        for name, engine in contestants.items()
        if isinstance(engine, Engine)
    }
    pairs = {
        "ours_bert_over_trainer_bert": ("ours_bert", "trainer_bert"),
        "ours_modernbert_over_trainer_bert": ("ours_modernbert", "trainer_bert"),
        "ours_bert_over_trainer_bert_tuned": ("ours_bert", "trainer_bert_tuned"),
        "ours_modernbert_over_modernbert_best": ("ours_modernbert", "modernbert_best"),
    }
    ratios = {
        key: round(statistics.median(a / b for a, b in zip(speeds[one], speeds[other], strict=True)), 3)
        for key, (one, other) in pairs.items()
    }
    sizes = dimensions_of(MODERNBERT_FEED_FORWARD)
    config = build_config("modernbert", None, sizes, corpus.vocabulary, LENGTH)
    record = {
        "claim": "at least 3 x Trainer + BertForMaskedLM; no slower than ModernBertForMaskedLM at its best",
        "environment": environment() | {"accelerate": _version("accelerate")},
        "corpus": {"tokens": corpus.manifest.splits["train"].num_tokens, "vocabulary": corpus.vocabulary.size},
        "settings": {"layers": LAYERS, "width": WIDTH, "length": LENGTH, "batch": BATCH, "rate": RATE, "seed": 1},
        "steps_per_round": arguments.steps,
        "tokens_per_second": speeds,
        "median_tokens_per_second": {name: round(statistics.median(values)) for name, values in speeds.items()},
        "ratios": ratios,
        "share_of_real_tokens": {str(length): share_of_real_tokens(corpus, length) for length in (128, 512, 1024)},
        "largest_share_of_time_waiting_for_the_loader": waited_shares,
        "matmul_flops_per_second": peak,
        "utilisation_of_ours_modernbert": round(
            flops_per_token(config, LENGTH, RATE, wanted_fraction=RATE)
            * statistics.median(speeds["ours_modernbert"])
            / peak,
            3,
        ),
    }
    print(json.dumps({key: record[key] for key in ("median_tokens_per_second", "ratios")}, indent=2))
    if arguments.record:
        arguments.record.parent.mkdir(parents=True, exist_ok=True)
        arguments.record.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def share_of_real_tokens(corpus: Corpus, row_length: int) -> float:
    """Return the share of an epoch's token budget that is not padding."""
    stream = RowStream(corpus.split("train"), corpus.vocabulary, row_length, seed=1)
    pieces = stream.pieces(0, stream.num_rows_per_epoch)
    num_real = int(pieces.lengths.sum()) + NUM_SPECIALS * len(pieces.lengths)
    return round(num_real / (stream.num_rows_per_epoch * row_length), 5)


def _version(package: str) -> str:
    import importlib.metadata

    return importlib.metadata.version(package)


if __name__ == "__main__":
    main()
