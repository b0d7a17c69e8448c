"""Minimal pairs: whether a model gives the acceptable sentence of a pair a higher likelihood than the unacceptable one.

Source: Warstadt et al. 2020, BLiMP: The Benchmark of Linguistic Minimal Pairs for English, arXiv:1912.00582; for masked
    models with the pseudo-log-likelihood of Salazar et al. 2020, arXiv:1910.14659.
Departures: a tie counts half, unless asked for otherwise; no model is better for having no opinion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from maskwright.core.files import sha256_of_file
from maskwright.core.log import progress
from maskwright.core.randomness import numpy_generator
from maskwright.evaluation.datasets.locate import Whereabouts
from maskwright.evaluation.datasets.pairs import (
    PairFields,
    Pairs,
    find_pair_files,
    load_hub_pairs,
    phenomena_of,
    read_pairs,
    sha256_of_pairs,
)
from maskwright.evaluation.evaluated_model import EvaluatedModel
from maskwright.evaluation.items import Items
from maskwright.evaluation.pseudo_likelihood import (
    Mode,
    ScoringWork,
    TokenizedSentences,
    pseudo_log_likelihoods,
    tokenize,
)
from maskwright.evaluation.scorer import MaskedLanguageModel
from maskwright.evaluation.screening import SAFETY, ScreeningResult, screened_log_likelihoods
from maskwright.evaluation.significance import percentiles
from maskwright.evaluation.tasks.base import Task, TaskConfig, TaskResult

Ties = Literal["half", "correct"]

NUM_RESAMPLES = 1000
"""Of the bootstrap behind the interval of each phenomenon."""


class MinimalPairs(Task):
    """Choose the acceptable one of two sentences by pseudo-log-likelihood.

    Scores, from 0 to 1: `accuracy`, the unweighted mean over the phenomena; `paradigm_accuracy`, over the paradigms;
    `micro_accuracy`, over the pairs. Further `num_pairs`, `num_ties` and `num_truncated_sentences`. Baseline `chance`.
    """

    class Config(TaskConfig):
        """Settings."""

        whereabouts: Whereabouts = Field(default=Whereabouts(), description="where the files are")
        files: list[str] = Field(default=["*.jsonl"], min_length=1, description="JSON lines, one file per paradigm")
        fields: PairFields = Field(default=PairFields(), description="which field of a row holds what")
        group_names: dict[str, str] = Field(
            default={}, description="phenomena that are counted with another one, or by another name"
        )
        mode: Mode = Field(
            default="original",
            description="original: one mask at a time; within_word_l2r: the later tokens of a word masked too; mntp: "
            "the prediction is read one position to the left, for models of the next token",
        )
        ties: Ties = Field(
            default="half", description="what a tie is worth: half a pair, or a whole one (correct) as in BabyLM"
        )
        leading_space: bool = Field(
            default=False, description="a space before each sentence, as the BabyLM pipelines of 2023 and 2024"
        )
        screen: bool = Field(
            default=False,
            description="decide clear pairs in bfloat16 and close ones in float32: faster where bfloat16 is, with the "
            "same decisions as far as they can be checked (docs/minimal_pairs.md)",
        )
        max_pairs: int | None = Field(
            default=None, ge=1, description="score a random sample of each paradigm; null: all pairs"
        )

    citation = "Salazar et al. 2020, Masked Language Model Scoring, arXiv:1910.14659"
    main_metric = "accuracy"

    def data_sha256(self, subject: EvaluatedModel) -> dict[str, str]:
        """Return the checksum of every file, or of what the hub gave.

        Raises:
            MissingData: the pairs are not there.
            MissingDependency: they are on the hub, and `datasets` is not installed.
        """
        if self._is_on_hub(subject.data):
            hub = str(self.config.whereabouts.hub)
            return {hub: sha256_of_pairs(load_hub_pairs(hub, self.config.fields, self.config.group_names))}
        return {path.name: sha256_of_file(path) for path in self._files(subject.data)}

    def evaluate(self, subject: EvaluatedModel, seed: int) -> TaskResult:
        """Score a model on all pairs.

        Raises:
            EvaluationError: the model has no mask token or no vocabulary head, or a file can't be read.
        """
        model, pairs = subject.masked_language_model, self.pairs(subject.data)
        if self.config.max_pairs is not None:
            pairs = pairs.sample(self.config.max_pairs, seed)
        config = self.config
        scored = score_pairs(
            model, pairs, config.mode, config.ties, config.leading_space, seed if config.screen else None
        )
        items, work = scored.items, scored.work
        return TaskResult(
            scores=self.scores(items),
            groups=group_scores(items, seed),
            baselines={"chance": dict.fromkeys(("accuracy", "paradigm_accuracy", "micro_accuracy"), 0.5)},
            settings={
                "num_masked_copies": work.num_copies,
                "num_forward_passes": work.num_forward_passes,
                "num_encoded_tokens": work.num_encoded_tokens,
            },
            notes=_notes(scored, pairs, model, config.ties),
            items=items,
        )

    def scores(self, items: Items) -> dict[str, float]:
        """Return the scores of some items; see the class."""
        credits_P, counts_P = _sums_by_paradigm(items, items.columns["credit"])
        is_there_P = counts_P > 0
        membership_GP = _membership(items.strata)[1]
        credits_G, counts_G = membership_GP @ credits_P, membership_GP @ counts_P
        return {
            "accuracy": float((credits_G[counts_G > 0] / counts_G[counts_G > 0]).mean()),
            "paradigm_accuracy": float((credits_P[is_there_P] / counts_P[is_there_P]).mean()),
            "micro_accuracy": float(credits_P.sum() / counts_P.sum()),
            "num_pairs": len(items),
            "num_ties": int(_is_tie(items).sum()),
            "num_truncated_sentences": int(items.columns["num_truncated"].sum()),
        }

    def pairs(self, data: Path | None) -> Pairs:
        """Read the pairs.

        Args:
            data: the folder that holds them, or a file of pairs; None reads from the hub.

        Raises:
            MissingData: they are not there.
            EvaluationError: a file can't be read; names file, line and field.
        """
        fields, names = self.config.fields, self.config.group_names
        if self._is_on_hub(data):
            return load_hub_pairs(str(self.config.whereabouts.hub), fields, names)
        return read_pairs(self._files(data), fields, names)

    def _is_on_hub(self, data: Path | None) -> bool:
        return data is None and self.config.whereabouts.hub is not None

    def _files(self, data: Path | None) -> list[Path]:
        title = self.config.title or "minimal pairs"
        whereabouts = self.config.whereabouts
        return find_pair_files(whereabouts, self.config.files, data or whereabouts.folder or Path(), title)


@dataclass(frozen=True)
class ScoredPairs:
    """Scored pairs.

    Attributes:
        items: one a pair, with the columns "credit" (1, 0.5 or 0), "good_log_likelihood" and "bad_log_likelihood"
            (natural logarithms), "good_num_tokens", "bad_num_tokens" and "num_truncated" (sentences).
        work: what it took.
        screening: which pairs were scored in float32; None if all were.
    """

    items: Items
    work: ScoringWork
    screening: ScreeningResult | None = None


def score_pairs(
    model: MaskedLanguageModel,
    pairs: Pairs,
    mode: Mode,
    ties: Ties,
    leading_space: bool = False,
    screening_seed: int | None = None,
) -> ScoredPairs:
    """Score pairs.

    Args:
        model: gives the log-probabilities.
        pairs: at least one.
        mode, leading_space: see `pseudo_log_likelihoods` and `tokenize`.
        ties: what a tie is worth.
        screening_seed: decide clear pairs in bfloat16, with a sample drawn by this seed; None: all in float32.
    """
    texts = [text for pair in zip(pairs.good, pairs.bad, strict=True) for text in pair]
    sentences = tokenize(model.tokenizer, texts, model.max_tokens, leading_space)
    with progress(f"Scoring {len(pairs):,} minimal pairs, masked copies", len(sentences.token_ids)) as advance:
        screening = None
        if screening_seed is None:
            log_likelihoods, work = pseudo_log_likelihoods(model, sentences, mode, advance)
        else:
            log_likelihoods, work, screening = screened_log_likelihoods(model, sentences, mode, screening_seed, advance)
    good, bad = log_likelihoods[0::2], log_likelihoods[1::2]
    value_of_tie = 0.5 if ties == "half" else 1.0
    columns = {
        "credit": np.where(good == bad, value_of_tie, (good > bad).astype(np.float64)),
        "good_log_likelihood": good,
        "bad_log_likelihood": bad,
        **_sizes(sentences),
    }
    return ScoredPairs(Items(pairs.ids, columns, pairs.paradigm_index, pairs.paradigms), work, screening)


def _sizes(sentences: TokenizedSentences) -> dict[str, np.ndarray]:
    lengths, is_truncated = sentences.lengths, sentences.is_truncated.astype(np.int64)
    return {
        "good_num_tokens": lengths[0::2],
        "bad_num_tokens": lengths[1::2],
        "num_truncated": is_truncated[0::2] + is_truncated[1::2],
    }


def group_scores(items: Items, seed: int) -> dict[str, dict[str, float]]:
    """Return the scores of each phenomenon and, where it has several, of its paradigms ("phenomenon/paradigm").

    The 95 % interval ("low" to "high") is a bootstrap over the pairs of each paradigm. A credit has three values at
    most, so a resample of a paradigm is one draw from a multinomial distribution.
    """
    phenomena, membership_GP = _membership(items.strata)
    values, value_index = np.unique(items.columns["credit"], return_inverse=True)
    counts_PC = np.stack([_sums_by_paradigm(items, value_index == number)[0] for number in range(len(values))], axis=1)
    counts_P = counts_PC.sum(axis=1).astype(np.int64)
    credits_RP = np.stack(
        [
            numpy_generator(seed, "phenomena", number).multinomial(count, row / max(count, 1), NUM_RESAMPLES) @ values
            for number, (count, row) in enumerate(zip(counts_P, counts_PC, strict=True))
        ],
        axis=1,
    )
    ties_P = _sums_by_paradigm(items, _is_tie(items))[0]
    parts = {name: membership_GP[number] for number, name in enumerate(phenomena)}
    parts |= dict(zip(items.strata, np.eye(len(items.strata)), strict=True))
    groups = {}
    for name, members_P in parts.items():
        if num_pairs := int(members_P @ counts_P):
            low, high = percentiles(credits_RP @ members_P / num_pairs)
            accuracy = float(members_P @ (counts_PC @ values)) / num_pairs
            ties = int(members_P @ ties_P)
            groups[name] = {"accuracy": accuracy, "low": low, "high": high, "num_pairs": num_pairs, "num_ties": ties}
    return groups


def _sums_by_paradigm(items: Items, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of a column in each paradigm, and how many items it has."""
    num_paradigms = len(items.strata)
    sums = np.bincount(items.stratum_index, weights=values, minlength=num_paradigms)
    return sums, np.bincount(items.stratum_index, minlength=num_paradigms)


def _membership(paradigms: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Return the phenomena, sorted, and which paradigm belongs to which, float64 [G, P] of zeros and ones."""
    names = phenomena_of(paradigms)
    phenomena = sorted(set(names))
    return phenomena, (np.array(phenomena)[:, None] == np.array(names)[None, :]).astype(np.float64)


def _is_tie(items: Items) -> np.ndarray:
    return items.columns["good_log_likelihood"] == items.columns["bad_log_likelihood"]


def _notes(scored: ScoredPairs, pairs: Pairs, model: MaskedLanguageModel, ties: Ties) -> list[str]:
    """Return what a reader must know."""
    notes, items = [], scored.items
    if (screening := scored.screening) is not None:
        notes.append(
            f"{screening.num_pairs - screening.num_exact_pairs:,} clear pairs were decided in bfloat16, the other "
            f"{screening.num_exact_pairs:,} in float32: those of a difference up to {screening.bound_nats:.2f} nats, "
            f"{SAFETY:g} times the largest error of bfloat16 on a sample."
        )
    if num_truncated := int(items.columns["num_truncated"].sum()):
        notes.append(
            f"{num_truncated:,} of {2 * len(items):,} sentences are longer than the {model.max_tokens:,} tokens that "
            "the model takes; their ends were left out."
        )
    num_equal = sum(good == bad for good, bad in zip(pairs.good, pairs.bad, strict=True))
    if num_equal:
        notes.append(f"{num_equal:,} pairs consist of twice the same sentence: ties for every model.")
    if ties == "correct" and (num_ties := int(_is_tie(items).sum())):
        notes.append(f"{num_ties:,} ties count as correct, as in the BabyLM pipelines.")
    return notes
