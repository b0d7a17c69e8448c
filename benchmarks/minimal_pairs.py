"""Measure scoring minimal pairs beside the straightforward loop: the same model, pairs and cores, in turn in one run.

    python benchmarks/minimal_pairs.py --model RUN/model --data BLIMP --record benchmarks/records/<date>_blimp.json

The rival is what evaluation pipelines do: transformers' own model class; one sentence's masked copies as one padded
batch; logits over the whole vocabulary at every position; then the hidden token's log-probability. It is given what
costs nothing to give: sdpa attention, inference mode, all threads, the softmax at the scored positions only. It
computes in float32, in the mode `original`. Ours does the same, and once more with the setting `screen`.

Each round takes other pairs of every paradigm and scores them on all sides; who begins changes from round to round. A
first round of few pairs, in which ours compiles, is thrown away. With `--whole`, ours (`screen`) scores all pairs once
more, in one go.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from maskwright.core.hardware import environment, matmul_flops_per_second
from maskwright.encoders.flops import flops_per_token
from maskwright.evaluation.catalogue import find_tasks
from maskwright.evaluation.datasets.pairs import Pairs
from maskwright.evaluation.items import Items
from maskwright.evaluation.pseudo_likelihood import ScoringWork, tokenize
from maskwright.evaluation.scorer import MaskedLanguageModel
from maskwright.evaluation.tasks.minimal_pairs import MinimalPairs, score_pairs

WARM_UP_PAIRS = 67

SIDES = ("straightforward", "ours", "screened")
"""`screened` is ours with the setting `screen`: clear pairs in bfloat16, close ones in float32."""


class StraightforwardLoop:
    """One sentence after the other, its masked copies as one batch."""

    def __init__(self, folder: Path) -> None:
        """Load the model as everybody does."""
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForMaskedLM.from_pretrained(folder, attn_implementation="sdpa", dtype=torch.float32)
        self._model.eval()

    @torch.inference_mode()
    def score(self, text: str) -> float:
        """Return the sum of the log-probabilities of the tokens, each hidden in turn."""
        encoded = self._tokenizer(text, return_tensors="pt")
        token_ids_L, scored_M = encoded["input_ids"][0], torch.arange(1, encoded["input_ids"].shape[1] - 1)
        copies_ML = token_ids_L.repeat(len(scored_M), 1)
        rows_M = torch.arange(len(scored_M))
        copies_ML[rows_M, scored_M] = self._tokenizer.mask_token_id
        logits_MLV = self._model(input_ids=copies_ML, attention_mask=torch.ones_like(copies_ML)).logits
        log_probabilities_MV = logits_MLV[rows_M, scored_M].log_softmax(dim=-1)
        return float(log_probabilities_MV[rows_M, token_ids_L[scored_M]].double().sum())


def straightforward(loop: StraightforwardLoop, pairs: Pairs) -> tuple[float, np.ndarray]:
    """Return the seconds and the scores [N, 2] of the rival."""
    begin = time.perf_counter()
    scores = [[loop.score(good), loop.score(bad)] for good, bad in zip(pairs.good, pairs.bad, strict=True)]
    return time.perf_counter() - begin, np.array(scores)


def ours(
    model: MaskedLanguageModel, pairs: Pairs, screened: bool = False
) -> tuple[float, np.ndarray, Items, ScoringWork]:
    """Return our seconds and scores [N, 2], tokenizing included."""
    begin = time.perf_counter()
    scored = score_pairs(model, pairs, "original", "half", screening_seed=1 if screened else None)
    items, work = scored.items, scored.work
    seconds = time.perf_counter() - begin
    scores = [items.columns[f"{which}_log_likelihood"] for which in ("good", "bad")]
    return seconds, np.column_stack(scores), items, work


def compile_as_for(model: MaskedLanguageModel, pairs: Pairs) -> None:
    """Let the model compile itself as it would for all pairs; the clear ones in bfloat16 and the others in float32."""
    texts = [*pairs.good, *pairs.bad]
    num_tokens = tokenize(model.tokenizer, texts, model.max_tokens).num_encoded_tokens
    for dtype in (torch.float32, torch.bfloat16):
        with model.compute_in_precision(dtype):
            model.compile_for(num_tokens)


def rounds_of(pairs: Pairs, num_rounds: int, pairs_per_paradigm: int | None, seed: int) -> list[Pairs]:
    """Deal the pairs of every paradigm out to the rounds."""
    chosen = pairs.sample(pairs_per_paradigm or len(pairs), seed)
    return [chosen.take(np.arange(number, len(chosen), num_rounds)) for number in range(num_rounds)]


def forward_flops(model: MaskedLanguageModel, work: ScoringWork) -> float:
    """Return the FLOPs of our forward passes; matrix products only."""
    length = work.num_encoded_tokens / work.num_forward_passes
    per_token = flops_per_token(model.encoder.config, length, 1 / length) / 3
    return per_token * length * work.num_forward_passes


def main() -> None:
    """Measure, compare every score, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a model folder")
    parser.add_argument("--data", type=Path, required=True, help="the folder with BLiMP's files")
    parser.add_argument("--task", default="blimp", help="another task of minimal pairs, or the path of its YAML")
    parser.add_argument("--pairs-per-paradigm", type=int, help="what the slow side gets; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--whole", action="store_true", help="let ours also score all pairs in one go")
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    task = find_tasks([arguments.task], {})[0].task
    assert isinstance(task, MinimalPairs)
    pairs = task.pairs(arguments.data)
    loop, model = StraightforwardLoop(arguments.model), MaskedLanguageModel.from_folder(arguments.model)
    warm_up = pairs.sample(1, arguments.seed).take(np.arange(min(WARM_UP_PAIRS, len(pairs.paradigms))))
    straightforward(loop, warm_up)
    begin = time.perf_counter()
    # The rounds stand for the whole set, which is long enough to be worth compiling.
    compile_as_for(model, pairs)
    ours(model, warm_up)
    ours(model, warm_up, screened=True)
    compile_seconds = time.perf_counter() - begin

    record = measured(
        loop, model, task, rounds_of(pairs, arguments.rounds, arguments.pairs_per_paradigm, arguments.seed)
    )
    record["compile_seconds"] = round(compile_seconds, 1)
    if arguments.whole:
        seconds, _, items, work = ours(model, pairs, screened=True)
        rate = forward_flops(model, work) / seconds
        record["whole"] = {
            "num_pairs": len(pairs),
            "seconds": round(seconds, 2),
            "flops_per_second": rate,
            "scores": task.scores(items),
        }
    record |= {
        "claim": "at least 5 x the straightforward loop, the same decision for every pair (float32, and screened)",
        "environment": environment(),
        "model": model_settings(model),
        "num_threads": torch.get_num_threads(),
        "tokens_per_batch": model.tokens_per_batch,
        "matmul_flops_per_second": matmul_flops_per_second(torch.device("cpu"), torch.float32, seconds=2),
    }
    print(json.dumps(record, indent=2))
    if arguments.record:
        arguments.record.parent.mkdir(parents=True, exist_ok=True)
        arguments.record.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def measured(
    loop: StraightforwardLoop, model: MaskedLanguageModel, task: MinimalPairs, rounds: list[Pairs]
) -> dict[str, object]:
    """Score the rounds on all sides; return times, rates, and how the scores agree."""
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    scores_of: dict[str, list[np.ndarray]] = {side: [] for side in SIDES}
    flops = 0.0
    for number, pairs in enumerate(rounds):
        for side in SIDES[:: 1 if number % 2 else -1]:
            if side == "straightforward":
                elapsed, scores = straightforward(loop, pairs)
            else:
                elapsed, scores, _, work = ours(model, pairs, screened=side == "screened")
                flops += forward_flops(model, work) if side == "ours" else 0.0
            scores_of[side].append(scores)
            seconds[side].append(elapsed)
            print(f"round {number + 1} {side}: {len(pairs) / elapsed:,.1f} pairs/s", flush=True)
    joined = {side: np.concatenate(scores) for side, scores in scores_of.items()}
    choices = {side: np.sign(scores[:, 0] - scores[:, 1]) for side, scores in joined.items()}
    theirs = joined["straightforward"]
    record: dict[str, object] = {
        "num_pairs": sum(map(len, rounds)),
        "num_pairs_per_round": [len(pairs) for pairs in rounds],
        "seconds": {side: [round(value, 3) for value in values] for side, values in seconds.items()},
        "smallest_gap_of_a_pair": float(np.abs(theirs[:, 0] - theirs[:, 1]).min()),
        "largest_score": float(np.abs(theirs).max()),
        "our_flops_per_second": flops / sum(seconds["ours"]),
    }
    for side in SIDES[1:]:
        ratios = [slow / fast for slow, fast in zip(seconds["straightforward"], seconds[side], strict=True)]
        record[side] = {
            "ratios": [round(ratio, 3) for ratio in ratios],
            "median_ratio": round(statistics.median(ratios), 3),
            "num_different_decisions": int((choices["straightforward"] != choices[side]).sum()),
            "largest_score_difference": float(np.abs(theirs - joined[side]).max()),
        }
    return record


def model_settings(model: MaskedLanguageModel) -> dict[str, object]:
    """Return what decides the cost of a model."""
    names = ("num_layers", "hidden_size", "feed_forward_size", "vocabulary_size")
    return {name: getattr(model.encoder.config, name) for name in names}


if __name__ == "__main__":
    main()
