"""A run folder as the stages leave it, with plausible numbers."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskwright.core.files import sha256_of_file
from maskwright.core.records import (
    CorpusManifest,
    EngineRecord,
    EvaluationRecord,
    ExportRecord,
    PhaseRecord,
    PlanRecord,
    ResultRecord,
    RunFolder,
    RunRecord,
    ShardRecord,
    SplitRecord,
    TokenizerAudit,
)

NUM_STEPS = 400
TOKENS_PER_STEP = 16384


def write_corpus(folder: Path, **changes: Any) -> str:
    """Write a manifest and unigram counts; return the manifest's checksum."""
    folder.mkdir(parents=True)
    counts = (2e6 / np.arange(1, 16385) ** 1.1).astype(np.int64)
    counts[:5] = 0
    np.save(folder / "unigram_counts.npy", counts, allow_pickle=False)
    shard = ShardRecord(name="train-00000", num_documents=1, num_tokens=1, sha256={}, num_bytes={})
    values: dict[str, Any] = {
        "created": "2026-11-21T08:00:00+00:00",
        "source": {"source": "text", "paths": ["texts/*.txt"]},
        "files": [f"texts/part-{index:03}.txt" for index in range(12)],
        "tokenizer_sha256": "0" * 64,
        "tokenizer_settings": {"kind": "unigram", "vocabulary_size": 16384},
        "token_dtype": "uint16",
        "has_word_starts": True,
        "splits": {
            name: SplitRecord(
                shards=[shard],
                num_documents=size,
                num_words=size * 220,
                num_tokens=size * 301,
                num_text_bytes=size * 1333,
            )
            for name, size in (("train", 40123), ("held_out", 405))
        },
        "dropped": {"empty": 17, "duplicate": 230, "invalid_utf8_bytes": 0},
        "decontamination": {"removed_documents": 3, "checked_ngrams": 120934},
        "audit": TokenizerAudit(
            kind="unigram",
            vocabulary_size=16384,
            num_sampled_documents=405,
            unknown_rate=0.00012,
            tokens_per_word=1.37,
            characters_per_token=4.4,
            character_coverage=0.99991,
            sample_text="The court dismissed the appeal on procedural grounds.",
            sample_tokens=[
                "▁The",
                "▁court",
                "▁dismiss",
                "ed",
                "▁the",
                "▁appeal",
                "▁on",
                "▁procedur",
                "al",
                "▁grounds",
                ".",
            ],
        ),
        "seconds": 41.5,
        "sha256_of_counts": sha256_of_file(folder / "unigram_counts.npy"),
    }
    manifest = CorpusManifest(**{**values, **changes})
    manifest.write(folder / "manifest.json")
    return manifest.content_sha256


def write_metrics(path: Path, probe_name: str) -> None:
    """Write a log of 400 steps in two phases with a probe every 50."""
    noise = np.random.default_rng(7)
    lines = []
    for step in range(1, NUM_STEPS + 1):
        tokens = step * TOKENS_PER_STEP
        share = step / NUM_STEPS
        loss = 3.1 + 6.2 * math.exp(-share * 9) + 0.06 * noise.normal()
        rate = 22_000 + 700 * noise.normal()
        lines.append(
            {
                "step": step,
                "tokens": tokens,
                "seconds": tokens / 22_000,
                "phase": int(share > 0.8),
                "progress": share,
                "loss": loss,
                "mlm": loss,
                "learning_rate": 1e-3 * min(1, share * 20, (1 - share) * 5),
                "gradient_norm": 0.6 + 3 * math.exp(-share * 30) + 0.05 * abs(noise.normal()),
                "tokens_per_second": rate,
                "utilisation": rate / 51_000,
            }
        )
        if step % 50 == 0:
            lines.append(
                {
                    "step": step,
                    "tokens": tokens,
                    probe_name: 3.0 + 5.4 * math.exp(-share * 8),
                    "held_out_top1_accuracy": 0.44 * (1 - math.exp(-share * 5)),
                    "held_out_top5_accuracy": 0.62 * (1 - math.exp(-share * 6)),
                }
            )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def held_out_record(**changes: Any) -> EvaluationRecord:
    """Return scores with examples."""
    guesses = (("dismissed", 0.41), ("denied", 0.22), ("granted", 0.07), ("heard", 0.05), ("rejected", 0.02))
    sentences = (
        ("The court [MASK] the appeal on procedural grounds.", "dismissed"),
        ("She closed the door and walked slowly down the [MASK].", "stairs"),
        ("Return the number of non-overlapping occurrences of [MASK] sub in string.", "substring"),
        ("It was the [MASK] of times, it was the worst of times.", "best"),
    )
    values: dict[str, Any] = {
        "task": "held_out",
        "model": "model",
        "model_sha256": "1" * 64,
        "settings": {
            "seed": 1,
            "mask_rate": 0.15,
            "max_tokens": 200_000,
            "sequence_length": None,
            "num_sequences": 812,
        },
        "scores": {
            "cross_entropy": 3.021,
            "top1_accuracy": 0.4385,
            "top5_accuracy": 0.6179,
            "num_scored_tokens": 18288,
        },
        "baselines": {"unigram": {"cross_entropy": 6.93, "top1_accuracy": 0.0412, "top5_accuracy": 0.1403}},
        "examples": [
            {"text": text, "answer": answer, "predictions": [{"token": t, "probability": p} for t, p in guesses]}
            for text, answer in sentences
        ],
        "data_sha256": {"corpus": "2" * 64},
        "environment": {"device": "cpu"},
        "seconds": 12.2,
    }
    return EvaluationRecord(**{**values, **changes})


def write_run(
    run: Path,
    *,
    is_finished: bool = True,
    probe_name: str = "held_out_cross_entropy",
    corpus: dict[str, Any] | None = None,
    evaluation: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write a run folder and its corpus beside it; `changes` replace fields of the `RunRecord`."""
    run.mkdir(parents=True)
    folder = RunFolder(run)
    corpus_sha256 = write_corpus(run.parent / "corpus", **(corpus or {}))
    phases = [
        PhaseRecord(objective="mlm", sequence_length=length, num_steps=steps, flops_per_token=4.1e7)
        for length, steps in ((128, 320), (512, 80))
    ]
    values: dict[str, Any] = {
        "name": "small-legal-encoder",
        "created": "2026-11-21T08:10:00+00:00",
        "status": "finished" if is_finished else "interrupted",
        "recipe": {
            "name": "small-legal-encoder",
            "seed": 1,
            "encoder": {"family": "modernbert", "size": "small"},
            "optimizer": {"name": "muon", "learning_rate": 0.001, "betas": [0.9, 0.98], "weight_decay": 0.01},
            "schedule": {"shape": "wsd", "warmup_fraction": 0.05, "decay_fraction": 0.2},
            "phases": [{"objective": {"name": "mlm", "mask_rate": 0.3}, "sequence_length": 128}],
        },
        "corpus": str(run.parent / "corpus"),
        "corpus_sha256": corpus_sha256,
        "environment": {
            "python": "3.11.7",
            "maskwright": "0.1.0",
            "torch": "2.13.0",
            "transformers": "5.23.0",
            "processor": "Some Processor 9000",
            "cores": "2",
        },
        "citations": {
            "mlm": "Devlin et al. 2019, BERT: Pre-training of Deep Bidirectional Transformers, arXiv:1810.04805",
            "modernbert": "Warner et al. 2024, Smarter, Better, Faster, Longer, arXiv:2412.13663",
        },
        "plan": PlanRecord(
            num_parameters=11_300_000,
            num_body_parameters=4_800_000,
            phases=phases,
            total_flops=2.7e14,
            total_tokens=NUM_STEPS * TOKENS_PER_STEP,
            total_steps=NUM_STEPS,
        ),
        "engine": EngineRecord(
            device="cpu",
            dtype="float32",
            attention="padded",
            compiled=True,
            num_ranks=1,
            matmul_flops_per_second=1.31e11,
        ),
    }
    if is_finished:
        values["result"] = ResultRecord(
            step=NUM_STEPS,
            num_tokens=NUM_STEPS * TOKENS_PER_STEP,
            seconds=298.0,
            final_loss=3.11,
            best_step=400,
            best_held_out_loss=3.021,
        )
        values["export"] = ExportRecord(
            family="modernbert",
            architecture="ModernBertForMaskedLM",
            max_logit_difference=1.7e-6,
            num_compared_logits=2_097_152,
            transformers_version="5.23.0",
        )
        held_out_record(**(evaluation or {})).write(folder.evaluation / "held_out.json")
        folder.model.mkdir()
    write_metrics(folder.metrics, probe_name)
    RunRecord(**{**values, **changes}).write(folder.run_record)
    return run


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a run folder at `at` in the test's folder; see `write_run`."""
    return lambda at="run", **changes: write_run(tmp_path / at, **changes)
