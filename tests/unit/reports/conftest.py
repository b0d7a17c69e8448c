"""A run folder as the stages leave it, with plausible numbers."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskwright.core.files import sha256_of_file
from maskwright.core.records.corpus import CorpusManifest, ShardRecord, SplitRecord, TokenizerAudit
from maskwright.core.records.evaluation import (
    ComparisonRow,
    EvaluationRecord,
    ModelComparisonRecord,
    SeedRecord,
    TableRecord,
)
from maskwright.core.records.run import (
    EnergyRecord,
    EngineRecord,
    ExportRecord,
    PhaseRecord,
    PlanRecord,
    ResultRecord,
    RunFolder,
    RunRecord,
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
        values["energy"] = EnergyRecord(
            kwh=0.00543,
            kg_co2=0.00258,
            how="estimated",
            seconds=301.0,
            assumptions=[
                "assumed: 65 W for the processor, all the time",
                "0.475 kg of CO2 per kWh, the world's average",
            ],
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


def fine_tuned_record(
    task: str, title: str, metric: str, scores: list[float], table: TableRecord | None, **changes: Any
) -> EvaluationRecord:
    """Return the scores of a fine-tuned task with seeds 12 and up."""
    seeds = [SeedRecord(seed=12 + number, scores={metric: score}, seconds=61) for number, score in enumerate(scores)]
    values: dict[str, Any] = {
        "task": task,
        "title": title,
        "kind": "classification",
        "citation": f"Author et al. 2018, {title}: a task, arXiv:1804.07461",
        "table": table,
        "model": "model",
        "model_sha256": "1" * 64,
        "settings": {
            "data": {"layouts": [{"folders": ["glue"], "test": "dev.tsv"}, {"hub": f"nyu-mll/glue/{task}"}]},
            "training": {"learning_rate": 5e-5, "epochs": 10},
        },
        "main_metric": metric,
        "scores": {metric: float(np.mean(scores))},
        "deviations": {metric: float(np.std(scores, ddof=1))} if len(scores) > 1 else {},
        "intervals": {metric: (float(np.mean(scores)) - 0.02, float(np.mean(scores)) + 0.02)},
        "seeds": seeds,
        "baselines": {"majority": {metric: 0.0 if metric == "matthews_correlation" else 0.513}},
        "notes": ["The best step was chosen on the reported split, as the BabyLM pipelines do."],
        "data_sha256": {f"glue/{title}/dev.tsv": "3" * 64},
        "environment": {"device": "cpu"},
        "seconds": 244.0,
    }
    return EvaluationRecord(**{**values, **changes})


PHENOMENA = {"anaphor_agreement": 0.81, "argument_structure": 0.66, "binding": 0.71, "island_effects": 0.47,
             "npi_licensing": 0.51, "subject_verb_agreement": 0.74}  # fmt: skip


def blimp_record(**changes: Any) -> EvaluationRecord:
    """Return scores of minimal pairs with phenomena and one paradigm."""
    groups = {
        name: {"accuracy": score, "low": score - 0.015, "high": score + 0.015, "num_pairs": 2000, "num_ties": 3}
        for name, score in [*PHENOMENA.items(), ("binding/principle_A_c_command", 0.62)]
    }
    values: dict[str, Any] = {
        "task": "blimp",
        "title": "BLiMP",
        "kind": "minimal_pairs",
        "citation": "Warstadt et al. 2020, BLiMP, arXiv:1912.00582",
        "model": "model",
        "model_sha256": "1" * 64,
        "settings": {"whereabouts": {"hub": "nyu-mll/blimp"}, "mode": "original", "ties": "half"},
        "main_metric": "accuracy",
        "scores": {"accuracy": 0.65, "num_pairs": 12000, "num_ties": 18},
        "intervals": {"accuracy": (0.643, 0.657)},
        "groups": groups,
        "baselines": {"chance": {"accuracy": 0.5}},
        "seeds": [SeedRecord(seed=1, scores={"accuracy": 0.65}, seconds=80)],
        "notes": ["18 of 24,000 sentences are longer than the model takes; their ends were left out."],
        "data_sha256": {"nyu-mll/blimp": "4" * 64},
        "environment": {"device": "cpu"},
        "seconds": 80.0,
    }
    return EvaluationRecord(**{**values, **changes})


def comparison_record(**changes: Any) -> ModelComparisonRecord:
    """Return two models side by side: one difference, one that is none."""
    row: dict[str, Any] = {
        "task": "rte", "title": "RTE", "metric": "accuracy", "model_mean": 0.61, "model_deviation": 0.012,
        "other_mean": 0.56, "other_deviation": 0.02, "difference": 0.05, "interval": (0.02, 0.08), "p_items": 0.002,
        "p_seeds": 0.004, "p_corrected": 0.0008, "num_items": 277, "num_seeds": 4, "verdict": "small is better",
    }  # fmt: skip
    equal = row | {
        "task": "cola", "title": "CoLA", "metric": "matthews_correlation", "model_mean": -0.01, "difference": -0.004,
        "p_corrected": 0.31, "verdict": "no evidence of a difference",
    }  # fmt: skip
    values: dict[str, Any] = {
        "model": "small",
        "other": "runs/other",
        "model_sha256": "1" * 64,
        "other_sha256": "5" * 64,
        "num_resamples": 1000,
        "seed": 1,
        "rows": [ComparisonRow(**row), ComparisonRow(**equal)],
        "notes": ["Holm's correction for 2 comparisons."],
    }
    return ModelComparisonRecord(**{**values, **changes})


def write_scores(run: Path) -> Path:
    """Add what an evaluation by a suite, by minimal pairs and against another model leaves; WNLI is missing."""
    folder = RunFolder(run)
    rows = {"cola": "CoLA", "sst2": "SST-2", "rte": "RTE", "wnli": "WNLI"}
    glue = TableRecord(name="glue", title="GLUE (development sets)", tasks=rows)
    for record in (
        fine_tuned_record("cola", "CoLA", "matthews_correlation", [0.462, 0.508, 0.481, 0.489], glue),
        fine_tuned_record("sst2", "SST-2", "accuracy", [0.889, 0.893, 0.888, 0.894], glue),
        fine_tuned_record("rte", "RTE", "accuracy", [0.61, 0.55, 0.57, 0.594], glue),
        fine_tuned_record("ag_news", "AG News", "accuracy", [0.913], None, notes=[], baselines={}),
        blimp_record(),
    ):
        record.write(folder.evaluation / f"{record.task}.json")
    comparison_record().write(folder.comparisons / "runs--other.json")
    return run


@pytest.fixture
def scored_run(make_run: Callable[..., Path]) -> Path:
    """A run folder with scores by suites and minimal pairs, and a comparison."""
    return write_scores(make_run())


@pytest.fixture
def records() -> dict[str, Callable[..., Any]]:
    """What makes records of scores."""
    return {"fine_tuned": fine_tuned_record, "blimp": blimp_record, "comparison": comparison_record}


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a run folder at `at` in the test's folder; see `write_run`."""
    return lambda at="run", **changes: write_run(tmp_path / at, **changes)
