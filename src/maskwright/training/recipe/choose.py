"""Chooses a recipe for a machine, a text and some hours, and says why.

What decides is how many FLOPs the hours hold. A larger encoder learns more from a token and sees fewer of them; the
largest one is taken that still sees enough. The rules hold for the records that they name, and are guesses elsewhere.
"""

import math
from dataclasses import dataclass
from typing import Any

from maskwright.core.errors import RecipeError
from maskwright.core.vocabulary import Vocabulary
from maskwright.encoders.build import build_config, load_family
from maskwright.encoders.config import EncoderConfig
from maskwright.encoders.flops import flops_per_token
from maskwright.training.engine.costs import BYTES_PER_PARAMETER

FAMILY = "modernbert"

RATE = 0.30
"""Share of the tokens that the default objective scores, for the count of FLOPs."""

BYTES_PER_TOKEN = 4.0
"""Of text in the languages and vocabularies that were tried."""

LEAST_STEPS = 200
"""Below that nothing worth having is learned."""

PARAMETERS_OF_ONE_TOKEN = 8e6
"""An encoder of so many parameters, embeddings counted, must see one token for each; a larger one more, by the root.

In about the same time, `tiny` reaches a held-out loss of 5.40 with 1.1 tokens for each of its parameters, and `mini`
5.61 with 0.2 (windows of 128, one seed each, 2026-11-27 and 28). What larger encoders want is a guess."""

STEPS_AT_LEAST_BATCH = 600
LEAST_BATCH, MOST_BATCH = 2048, 524_288

MOST_MICRO_BATCH = 8192
FAST_MACHINE, MOST_MICRO_BATCH_OF_FAST_ONE = 1e13, 65_536
"""FLOP/s of one process from which on micro-batches are larger, as GPUs want them."""

VOCABULARY_SIZES = {"tiny": 8192, "mini": 16_384, "small": 16_384, "medium": 32_768, "base": 32_768, "large": 32_768}
TOKENS_PER_ENTRY = 100
"""Tokens of text for each entry of the vocabulary, at the least: rarer ones are not learned."""

FEW_TOKENS, FEW_NEIGHBOURS = 10_000_000, {"local_attention": 8}
"""Below so many tokens, the local layers see four neighbours to each side instead of 64: what is near is learned first.

Held-out loss with windows of 8 and 128, one seed each: 5.78 and 6.25 after 0.6 M tokens (`mini`), 5.14 and 5.27 after
2.5 M (`mini`), 5.24 and 5.40 after 2.2 M (`tiny`); 4 is no better than 8 (English, steps of 2,048 tokens, 2026-11-28).
`benchmarks/windows.py` measures it. Longer runs, and what it means for fine-tuning, were not tried."""

LONG_FROM_HOURS, LONG_ROW = 1.0, 512
"""Hours from which a last part is trained on longer sequences, and how long those are."""


@dataclass(frozen=True)
class Means:
    """What there is to train with.

    Attributes:
        hours: of training.
        flops_per_second: that training is expected to reach on this machine.
        text_bytes: of text, about; None: not known, which counts as plenty.
        memory_bytes: that a process could use.
        num_ranks: processes that share the batches.
    """

    hours: float
    flops_per_second: float
    text_bytes: float | None
    memory_bytes: int
    num_ranks: int = 1

    @property
    def flops(self) -> float:
        """What the hours hold."""
        return 3600 * self.hours * self.flops_per_second


@dataclass(frozen=True)
class Choice:
    """A recipe, and why it is this one.

    Attributes:
        recipe: as it would stand in a file.
        reasons: names and values, to be shown.
    """

    recipe: dict[str, Any]
    reasons: list[tuple[str, str]]


@dataclass(frozen=True)
class Candidate:
    """One size with what it would see.

    Attributes:
        size: its name.
        num_parameters: embeddings counted.
        num_tokens: that the hours hold.
        vocabulary_size: of its tokenizer.
    """

    size: str
    num_parameters: int
    num_tokens: float
    vocabulary_size: int

    @property
    def seen(self) -> float:
        """Tokens for each parameter."""
        return self.num_tokens / self.num_parameters

    @property
    def least(self) -> float:
        """The tokens for each parameter from which on it is worth its size."""
        return math.sqrt(self.num_parameters / PARAMETERS_OF_ONE_TOKEN)


def choose_recipe(name: str, data: list[str], means: Means) -> Choice:
    """Return the recipe for some text and hours.

    Args:
        name: of the run.
        data: names of the text.
        means: machine, text and time.

    Raises:
        RecipeError: the hours hold too little for any encoder.
    """
    candidates = [candidate(size, means) for size in load_family(FAMILY).SIZES]
    fitting = [
        each for each in candidates if BYTES_PER_PARAMETER * each.num_parameters < means.memory_bytes / 2
    ] or candidates[:1]
    chosen = max((each for each in fitting if each.seen >= each.least), key=fitting.index, default=fitting[0])
    is_fast = means.flops_per_second / means.num_ranks >= FAST_MACHINE
    most = MOST_MICRO_BATCH_OF_FAST_ONE if is_fast else MOST_MICRO_BATCH
    batch, micro_batch = batch_tokens(chosen.num_tokens, means.num_ranks, most)
    if chosen.num_tokens < LEAST_STEPS * LEAST_BATCH:
        least = means.hours * LEAST_STEPS * LEAST_BATCH / chosen.num_tokens
        raise RecipeError(
            f"{means.hours:g} hours hold {chosen.num_tokens / LEAST_BATCH:.0f} steps of the smallest encoder here",
            f"{LEAST_STEPS} steps or more, for anything to be learned: --hours {rounded_up(least)} or more",
            "give more time; or name a recipe, which may be as short as you like",
        )
    phases = [phase(128, 0.8), phase(LONG_ROW, 0.2)] if means.hours >= LONG_FROM_HOURS else [phase(128, 1.0)]
    recipe = {
        "name": name,
        "description": f"Chosen for {means.hours:g} hours on a machine that trains at "
        f"{means.flops_per_second / 1e9:,.0f} GFLOP/s.",
        "data": {"data": data[0] if len(data) == 1 else data},
        "tokenizer": {"kind": "wordpiece", "vocabulary_size": chosen.vocabulary_size},
        "encoder": {
            "family": FAMILY,
            "size": chosen.size,
            "overrides": FEW_NEIGHBOURS if chosen.num_tokens < FEW_TOKENS else {},
        },
        "budget": {"hours": means.hours},
        "phases": phases,
        "batch": {"tokens": batch, "micro_batch_tokens": micro_batch},
        "optimizer": {"name": "muon", "learning_rate": 2e-3},
        "probes": {"num_probes": 12},
    }
    return Choice(recipe, reasons(chosen, fitting, means, batch))


def candidate(size: str, means: Means) -> Candidate:
    """Return what an encoder of a size would see in the hours."""
    entries = VOCABULARY_SIZES[size]
    if means.text_bytes is not None:
        most = means.text_bytes / BYTES_PER_TOKEN / TOKENS_PER_ENTRY
        entries = min(entries, max(1024, 2 ** int(math.log2(max(most, 1)))))
    config = build_config(FAMILY, size, {}, Vocabulary(entries, 0, 1, 2, 3, 4, (0, 1, 2, 3, 4), ""), 128)
    cost = flops_per_token(config, 128, RATE, wanted_fraction=RATE)
    return Candidate(size, num_parameters(config), means.flops / cost, entries)


def num_parameters(config: EncoderConfig) -> int:
    """Return about how many there are: the matrices; the embedding is the head's."""
    return config.num_layers * config.block_matrix_parameters() + config.head_matrix_parameters()


def batch_tokens(num_tokens: float, num_ranks: int, most: int = MOST_MICRO_BATCH) -> tuple[int, int]:
    """Return the tokens of a step and of a micro-batch: the best batch grows with the root of what is seen.

    `LEAST_BATCH` is the best of those that were tried at 1.2 M tokens (benchmarks/records/2026-11-27_optimizers.json).
    Every process has the same number of micro-batches, which hold whole rows of any length here.

    Args:
        num_tokens: that will be seen.
        num_ranks: processes that share a batch.
        most: tokens of a micro-batch.
    """
    root = LEAST_BATCH * math.sqrt(num_tokens / (STEPS_AT_LEAST_BATCH * LEAST_BATCH))
    batch = min(MOST_BATCH, max(LEAST_BATCH, 2 ** round(math.log2(root))))
    micro_batch = min(most, max(LONG_ROW, 2 ** int(math.log2(batch / num_ranks))))
    return max(1, round(batch / (num_ranks * micro_batch))) * num_ranks * micro_batch, micro_batch


def rounded_up(hours: float) -> str:
    """Return hours with two digits, not less than they are."""
    unit = 10 ** (math.floor(math.log10(hours)) - 1)
    return f"{math.ceil(hours / unit) * unit:.2g}"


def phase(sequence_length: int, share: float) -> dict[str, Any]:
    """Return a phase as it would stand in a recipe, with the default objective."""
    return {"sequence_length": sequence_length, "share": share}


def reasons(chosen: Candidate, fitting: list[Candidate], means: Means, batch: int) -> list[tuple[str, str]]:
    """Return why the recipe is what it is, as names and values."""
    text = "of unknown size"
    if means.text_bytes is not None:
        num_tokens = max(1.0, means.text_bytes / BYTES_PER_TOKEN)
        times = chosen.num_tokens / num_tokens
        text = f"about {means.text_bytes / 1e6:,.1f} MB, {num_tokens / 1e6:,.1f} M tokens, "
        text += f"of which {times:.0%} will be read" if times < 1 else f"read {times:,.1f} times"
    why = f"it sees about {_short(chosen.num_tokens)} tokens, {chosen.seen:.2g} for each of its "
    why += f"{_short(chosen.num_parameters)} parameters"
    for larger in fitting[fitting.index(chosen) + 1 :][:1]:
        why += f"; {larger.size} would see {larger.seen:.2g}, where {larger.least:.2g} is the least"
    return [
        ("hours", f"{means.hours:g}: {means.flops:.2g} FLOPs at {means.flops_per_second / 1e9:,.0f} GFLOP/s"),
        ("text", text),
        ("encoder", f"{FAMILY} {chosen.size}: {why}"),
        ("vocabulary", f"{chosen.vocabulary_size:,} entries"),
        ("batch", f"{batch:,} tokens a step: it grows with the root of the tokens seen"),
    ]


def _short(number: float) -> str:
    return f"{number / 1e9:,.1f} G" if number >= 1e9 else f"{number / 1e6:,.1f} M"
