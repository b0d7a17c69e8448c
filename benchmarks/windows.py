"""Measure what an encoder learns from few tokens when its local layers see few neighbours.

    python benchmarks/windows.py CORPUS --record benchmarks/records/<date>_windows.json

CORPUS is a prepared corpus with a vocabulary of 16,384. Trials are those of optimizers.py: Muon at its best rate and
batch there, `mlm` at 30 %, sequences of 128, held-out cross-entropy of [MASK] at 15 % of 131,072 tokens. ModernBERT's
local layers, two of three, see `local_attention // 2` tokens to each side. Every window has one seed at the smaller
budget; ModernBERT's own and the best one have three there, and one at the larger budget and with other encoders.
The variants change one thing more; what they are worth is the difference to the best window, with one seed.
"""

import argparse
from pathlib import Path
from typing import Any

from optimizers import SEEDS, Changes, Trials, constant_answer, summary

WINDOWS, OWN_WINDOW = (128, 32, 16, 8, 4), 128
FEW_TOKENS, MORE_TOKENS = 614_400, 2_457_600
BASE: Changes = {
    "optimizer.name": "muon",
    "optimizer.learning_rate": 2e-3,
    "batch.tokens": 2048,
    "batch.micro_batch_tokens": 2048,
}
WINDOW = "encoder.overrides.local_attention"

VARIANTS: dict[str, Changes] = {
    "15 % masked": {"phases": [{"objective": {"name": "mlm", "rate": 0.15}, "sequence_length": 128}]},
    "embeddings at half the rate": {"optimizer.learning_rate_factors.embedding": 0.5},
    "embeddings at twice the rate": {"optimizer.learning_rate_factors.embedding": 2.0},
    "rotary base 1,000": {"encoder.overrides.global_rope_theta": 1e3, "encoder.overrides.local_rope_theta": 1e3},
}


def main() -> None:
    """Make the trials and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2, help="trials at once, each on one core")
    arguments = parser.parse_args()
    trials = Trials(arguments.corpus, arguments.record, arguments.jobs)
    trials.note(constant_answer=constant_answer(arguments.corpus))

    def of(window: int, seed: int = 1, tokens: int = FEW_TOKENS, **more: Any) -> Changes:
        return BASE | {WINDOW: window, "budget.tokens": tokens, "seed": seed} | more

    searched = trials.make([of(window) for window in WINDOWS])
    best = min(searched, key=lambda each: each["held_out"])["changes"][WINDOW]
    pair = (OWN_WINDOW, best)
    trials.make([of(window, tokens=MORE_TOKENS) for window in pair])
    trials.make([of(window, tokens=MORE_TOKENS, **{"encoder.size": "tiny"}) for window in pair])
    trials.note(
        windows={
            str(window): summary(trials.make([of(window, seed) for seed in SEEDS])) for window in dict.fromkeys(pair)
        }
    )
    trials.note(
        variants={
            name: trials.make([of(best, **change)])[0]["held_out"] - trials.make([of(best)])[0]["held_out"]
            for name, change in VARIANTS.items()
        }
    )


if __name__ == "__main__":
    main()
