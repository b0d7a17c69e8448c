"""The rivals of the tracks: models of transformers, trained for some time as well as their usual set-up allows.

    python benchmarks/speedrun/rivals.py TRACK CORPUS --record benchmarks/records/<date>_speedrun_TRACK.json

Every learning rate with every batch is tried for a tenth of the track's time; the best setting then has all of it. What
it reaches on held-out text is the target. The learning rate goes up over 6 % of the steps and down linearly; how
many steps the time holds is timed before the first one.
"""

import argparse
import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from shared import TRACKS, Chunks, Track, measured_on, open_track_corpus
from torch import nn

from maskwright.core.files import write_json_atomically
from maskwright.core.hardware import environment
from maskwright.corpus.corpus import Corpus

SEARCH_SHARE, WARMUP, TIMED_STEPS = 0.1, 0.06, 3


def bert_by_trainer(track: Track, corpus: Corpus, seconds: float, rate: float, batch: int) -> tuple[nn.Module, int]:
    """`BertForMaskedLM` under `Trainer`, as run_mlm.py sets it up: float32, eager, every position through the head."""
    torch.manual_seed(1)
    vocabulary = corpus.vocabulary
    model = transformers.BertForMaskedLM(
        transformers.BertConfig(
            vocab_size=vocabulary.size,
            hidden_size=track.width,
            num_hidden_layers=track.layers,
            num_attention_heads=track.width // 64 or 1,
            intermediate_size=4 * track.width,
            max_position_embeddings=track.length,
            pad_token_id=vocabulary.pad_id,
        )
    )
    collator = transformers.DataCollatorForLanguageModeling(corpus.load_tokenizer(), mlm_probability=0.15)
    chunks = Chunks(corpus, track.length, track.most_chunks)

    def train(num_steps: int, learning_rate: float) -> float:
        with tempfile.TemporaryDirectory() as folder:
            arguments = transformers.TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=batch,
                max_steps=num_steps,
                learning_rate=learning_rate,
                lr_scheduler_type="linear",
                warmup_steps=math.ceil(WARMUP * num_steps),
                save_strategy="no",
                report_to="none",
                logging_strategy="no",
                disable_tqdm=True,
                use_cpu=True,
                dataloader_pin_memory=False,
            )
            trainer = transformers.Trainer(model=model, args=arguments, data_collator=collator, train_dataset=chunks)
            begin = time.perf_counter()
            trainer.train()
            return time.perf_counter() - begin

    train(1, 0.0)
    num_steps = max(1, int(seconds / (train(TIMED_STEPS, 0.0) / TIMED_STEPS)))
    train(num_steps, rate)
    return model, num_steps


def modernbert_at_its_best(
    track: Track, corpus: Corpus, seconds: float, rate: float, batch: int
) -> tuple[nn.Module, int]:
    """`ModernBertForMaskedLM`: sparse prediction, bfloat16, compiled, rows packed full, fused AdamW, 30 % masked."""
    torch.manual_seed(1)
    torch._dynamo.reset()
    vocabulary = corpus.vocabulary
    model = transformers.ModernBertForMaskedLM(
        transformers.ModernBertConfig(
            vocab_size=vocabulary.size,
            hidden_size=track.width,
            num_hidden_layers=track.layers,
            num_attention_heads=track.width // 64 or 1,
            intermediate_size=track.width * 3 // 2,
            max_position_embeddings=track.length,
            sparse_prediction=True,
            pad_token_id=vocabulary.pad_id,
            cls_token_id=vocabulary.cls_id,
            sep_token_id=vocabulary.sep_id,
            bos_token_id=vocabulary.cls_id,
            eos_token_id=vocabulary.sep_id,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    compiled = torch.compile(model) if track.is_compiled else model
    batches = masked_batches(corpus, track, batch)

    def step(learning_rate: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        with torch.autocast("cpu", torch.bfloat16):
            loss = compiled(**next(batches)).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    begin = time.perf_counter()
    step(0.0)  # compiles, which counts
    left = seconds - (time.perf_counter() - begin)
    begin = time.perf_counter()
    for _ in range(TIMED_STEPS):
        step(0.0)
    num_steps = max(1, int(left / ((time.perf_counter() - begin) / TIMED_STEPS)) - TIMED_STEPS)
    optimizer.state.clear()
    for number in range(num_steps):
        progress = (number + 1) / num_steps
        step(rate * min(progress / WARMUP, (1 - progress) / (1 - WARMUP)))
    return model, num_steps


def masked_batches(corpus: Corpus, track: Track, batch: int) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches without end, 30 % [MASK], with as many scored tokens in each, so that one graph serves all."""
    chunks, mask_id = Chunks(corpus, track.length, track.most_chunks), corpus.vocabulary.mask_id
    generator = torch.Generator().manual_seed(1)
    num_scored = int(0.3 * batch * (track.length - 2))
    while True:
        order = torch.randperm(len(chunks), generator=generator)
        for rows in order.split(batch):
            if len(rows) < batch:
                continue
            ids = torch.stack([chunks[int(row)]["input_ids"] for row in rows])
            chances = torch.rand(ids.shape, generator=generator)
            chances[:, [0, -1]] = 2.0  # never the special tokens at both ends
            chosen = chances.flatten().topk(num_scored, largest=False).indices
            labels = torch.full_like(ids, -100).flatten()
            labels[chosen] = ids.flatten()[chosen]
            ids = ids.flatten().index_fill(0, chosen, mask_id).view_as(ids)
            yield {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels.view_as(ids)}


Rival = Callable[[Track, Corpus, float, float, int], tuple[nn.Module, int]]
RIVALS: dict[str, Rival] = {"bert_by_trainer": bert_by_trainer, "modernbert_at_its_best": modernbert_at_its_best}


def trained(track: Track, corpus: Corpus, seconds: float, rate: float, batch: int) -> dict[str, Any]:
    """Train the track's rival for some time and return what it reached."""
    begin = time.perf_counter()
    model, num_steps = RIVALS[track.rival](track, corpus, seconds, rate, batch)
    taken = time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        corpus.load_tokenizer().save_pretrained(folder)
        scores = measured_on(Path(folder), corpus)
    return {"rate": rate, "batch": batch, "steps": num_steps, "seconds": round(taken, 1), **scores}


def main() -> None:
    """Search, train for the whole time, and write the track's target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("track", choices=sorted(TRACKS))
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--record", type=Path, required=True)
    arguments = parser.parse_args()
    track, corpus = TRACKS[arguments.track], open_track_corpus(arguments.corpus)
    record: dict[str, Any] = {
        "track": track.name,
        "content_sha256": corpus.manifest.content_sha256,
        "environment": environment(),
        "search": [],
    }
    for rate, batch in itertools.product(track.rates, track.batches):
        record["search"].append(trained(track, corpus, SEARCH_SHARE * track.seconds, rate, batch))
        print(record["search"][-1], flush=True)
        write_json_atomically(arguments.record, record)
    best = min(record["search"], key=lambda each: each["cross_entropy"])
    record["rival"] = trained(track, corpus, track.seconds, best["rate"], best["batch"])
    record["target"] = record["rival"]["cross_entropy"]
    print(record["rival"])
    write_json_atomically(arguments.record, record)


if __name__ == "__main__":
    main()
