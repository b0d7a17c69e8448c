"""How well a model restores hidden tokens of unseen text: masked cross-entropy and top-k accuracy.

Of near-duplicates across the split a model may remember what it seems to understand, so all figures are given for clean
tokens first: those that stand in no run of tokens which the training text has too (`corpus/shared_runs.py`).

Source: Devlin et al. 2019, BERT, arXiv:1810.04805, section 3.1 (15 % of the tokens).
Departures: hidden tokens are always [MASK] and always the same ones, whatever a model was trained with, so that
models with one tokenizer can be compared.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from pydantic import Field

from maskwright.batching.row_plan import NUM_SPECIALS
from maskwright.core.errors import EvaluationError
from maskwright.core.log import progress
from maskwright.core.randomness import numpy_generator
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import Corpus, TokenSplit
from maskwright.evaluation.evaluated_model import EvaluatedModel
from maskwright.evaluation.examples import certainty_groups, fill_mask_examples
from maskwright.evaluation.items import Items
from maskwright.evaluation.scorer import Cloze, ClozeScores
from maskwright.evaluation.tasks.base import (
    Task,
    TaskConfig,
    TaskResult,
    corpus_of,
    corpus_sha256,
    require_same_tokenizer,
)

PARTS = ("clean_", "")
"""What the names of figures on clean tokens begin with, and those on all."""


def scored_positions(
    token_ids: np.ndarray, special_ids: Iterable[int], rate: float, generator: np.random.Generator
) -> np.ndarray:
    """Choose which tokens of a document are hidden.

    Args:
        token_ids: int64 [n], the whole document.
        special_ids: tokens that are never hidden.
        rate: share of the other tokens that is hidden, rounded; at least one token is.
        generator: the document's own.

    Returns:
        int64, ascending indices into `token_ids`.
    """
    priority = generator.random(len(token_ids))
    eligible = np.flatnonzero(~np.isin(token_ids, list(special_ids)))
    count = max(1, round(rate * len(eligible)))
    return np.sort(eligible[np.argsort(priority[eligible], kind="stable")[:count]])


class HeldOutClozes:
    """The held-out text of a corpus as questions: sequences with hidden tokens.

    Documents are cut into as few equal sequences as the length allows; nothing is lost. What is hidden in a document is
    a function of the seed and the document alone, not of the sequence length, the batch or the subsample
    (`tests/unit/evaluation/test_held_out.py::test_hidden_tokens_depend_on_seed_and_document_only`).
    """

    def __init__(
        self,
        split: TokenSplit,
        vocabulary: Vocabulary,
        sequence_length: int,
        seed: int,
        rate: float = 0.15,
        max_tokens: int | None = None,
    ) -> None:
        """Decide which sequences are scored; tokens are read during iteration.

        Args:
            split: the held-out documents.
            vocabulary: gives the mask token and the special tokens.
            sequence_length: longest sequence, with [CLS] and [SEP].
            seed: of the hidden tokens and of the subsample.
            rate: share of tokens that are hidden.
            max_tokens: score a random sample of sequences with at most so many tokens (one sequence at least); None
                scores everything.
        """
        self._split = split
        self._vocabulary = vocabulary
        self._seed = seed
        self._rate = rate
        lengths = np.asarray(split.document_lengths, dtype=np.int64)
        pieces_per_document = -(-lengths // (sequence_length - NUM_SPECIALS))
        documents = np.repeat(np.arange(len(lengths)), pieces_per_document)
        before = np.repeat(np.cumsum(pieces_per_document) - pieces_per_document, pieces_per_document)
        rank = np.arange(len(documents)) - before
        self._starts = rank * lengths[documents] // pieces_per_document[documents]
        self._ends = (rank + 1) * lengths[documents] // pieces_per_document[documents]
        self._documents = documents
        if max_tokens is not None and lengths.sum() > max_tokens:
            self._keep_sample(max_tokens)
        self.num_tokens = int((self._ends - self._starts).sum())

    def _keep_sample(self, max_tokens: int) -> None:
        order = numpy_generator(self._seed, "held_out_sample").permutation(len(self._documents))
        num_kept = np.searchsorted(np.cumsum((self._ends - self._starts)[order]), max_tokens, side="right")
        kept = np.sort(order[: max(1, num_kept)])
        self._documents, self._starts, self._ends = self._documents[kept], self._starts[kept], self._ends[kept]

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self._documents)

    def __iter__(self) -> Iterator[Cloze]:
        """Yield the sequences that have a hidden token, document by document."""
        return (cloze for _, cloze in self.with_positions())

    def with_positions(self) -> Iterator[tuple[np.ndarray, Cloze]]:
        """Yield the sequences that have a hidden token, each with where in the split its hidden tokens are, int64 [m].

        Positions count as in `TokenSplit.first_tokens`.
        """
        borders = np.flatnonzero(np.diff(self._documents, prepend=-1))
        for first, last in zip(borders, [*borders[1:], len(self._documents)], strict=True):
            document = int(self._documents[first])
            token_ids = self._document_tokens(document)
            generator = numpy_generator(self._seed, "held_out_positions", document)
            hidden = scored_positions(token_ids, self._vocabulary.special_ids, self._rate, generator)
            masked = token_ids.copy()
            masked[hidden] = self._vocabulary.mask_id
            for start, end in zip(self._starts[first:last], self._ends[first:last], strict=True):
                inside = hidden[np.searchsorted(hidden, start) : np.searchsorted(hidden, end)]
                if len(inside):
                    yield (
                        self._split.first_tokens[document] + inside,
                        Cloze(masked[start:end], inside - start, token_ids[inside]),
                    )

    def _document_tokens(self, document: int) -> np.ndarray:
        length = self._split.document_lengths[document : document + 1]
        return self._split.gather_tokens(np.array([document]), np.zeros(1, dtype=np.int64), length).token_ids


def unigram_scores(unigram_counts_V: np.ndarray, special_ids: Iterable[int], target_ids: np.ndarray) -> ClozeScores:
    """Score a predictor that knows only token frequencies, which is the least that a model must beat.

    Args:
        unigram_counts_V: int64 [V], how often each token occurs in the training text.
        special_ids: tokens that are never predicted.
        target_ids: int64 [M], the right tokens.

    Returns:
        The scores under add-one smoothed frequencies over all text tokens.
    """
    counts_V = unigram_counts_V.astype(np.float64) + 1
    counts_V[list(special_ids)] = 0
    rank_V = np.empty(len(counts_V), dtype=np.int64)
    rank_V[np.argsort(-counts_V, kind="stable")] = np.arange(len(counts_V))
    targets = counts_V[target_ids]
    total = np.log(counts_V.sum())
    best_nats = np.full(len(targets), total - np.log(counts_V.max()))
    return ClozeScores(target_ids, total - np.log(targets), rank_V[target_ids], best_nats)


class HeldOut(Task):
    """Restore hidden tokens of held-out text.

    Scores: `cross_entropy` in nats per scored token, `top1_accuracy` and `top5_accuracy` from 0 to 1; the same of clean
    tokens as `clean_cross_entropy` and so on, if the corpus says which are clean; `bits_per_byte`; the numbers of
    scored tokens and the sums they come from. Baseline `unigram`: always predict by training frequency.
    """

    class Config(TaskConfig):
        """Settings."""

        mask_rate: float = Field(default=0.15, gt=0, lt=1, description="share of the tokens that are hidden")
        max_tokens: int | None = Field(
            default=200_000,
            ge=1,
            description="score a random sample of sequences with so many tokens; null: all of them",
        )
        sequence_length: int | None = Field(
            default=None, ge=8, description="longest sequence, with [CLS] and [SEP]; null: the model's limit"
        )
        num_examples: int = Field(default=6, ge=0, le=100, description="fill-mask examples")

    citation = "Devlin et al. 2019, BERT: Pre-training of Deep Bidirectional Transformers, arXiv:1810.04805"
    needs_corpus = True
    compared_by = "cross_entropy"

    def data_sha256(self, subject: EvaluatedModel) -> dict[str, str]:
        """Return the corpus's checksums.

        Raises:
            EvaluationError: there is no corpus.
        """
        return corpus_sha256(subject)

    def evaluate(self, subject: EvaluatedModel, seed: int) -> TaskResult:
        """Score a model on the held-out split of a corpus.

        Raises:
            EvaluationError: the corpus was made with another tokenizer, or holds no held-out text.
        """
        model, corpus = subject.masked_language_model, corpus_of(subject)
        require_same_tokenizer(model, corpus)
        limit = model.encoder.config.max_positions
        sequence_length = min(self.config.sequence_length or limit, limit)
        split, vocabulary = corpus.split("held_out"), corpus.vocabulary
        clozes = HeldOutClozes(split, vocabulary, sequence_length, seed, self.config.mask_rate, self.config.max_tokens)
        positions, found = [], []
        with progress("Scoring held-out text", len(clozes)) as advance:
            for scores in model.score(track_positions(clozes, positions, advance)):
                found.append(scores)
        scores, positions_M = joined(found), np.concatenate(positions)
        unigram = unigram_scores(corpus.unigram_counts_V, vocabulary.special_ids, scores.target_ids)
        items, of_unigram = (items_by_document(corpus, positions_M, each) for each in (scores, unigram))
        is_clean_M = are_clean(split, positions_M)
        groups = certainty_groups(np.exp(-scores.best_nats[is_clean_M]), scores.ranks[is_clean_M] < 1)
        return TaskResult(
            scores=self.scores(items),
            baselines={"unigram": means_of(of_unigram)},
            examples=fill_mask_examples(model, split, groups, self.config.num_examples, seed),
            settings={
                "used_sequence_length": sequence_length,
                "num_sequences": len(clozes),
                "num_tokens": clozes.num_tokens,
                "num_documents_in_split": split.num_documents,
            },
            notes=notes_on_clean_tokens(corpus),
            items=items,
        )

    def scores(self, items: Items) -> dict[str, float]:
        """Return the scores of some documents; see the class."""
        means, sums = means_of(items), {name: column.sum() for name, column in items.columns.items()}
        for part in PARTS:
            if f"num_{part}scored_tokens" in sums:
                means |= {
                    f"num_{part}scored_tokens": int(sums[f"num_{part}scored_tokens"]),
                    f"sum_{part}nats": float(sums[f"{part}nats"]),
                    f"sum_{part}top1_correct": int(sums[f"num_{part}top1_correct"]),
                    f"sum_{part}top5_correct": int(sums[f"num_{part}top5_correct"]),
                }
        return means


def track_positions(
    clozes: HeldOutClozes, positions: list[np.ndarray], advance: Callable[[float], None]
) -> Iterator[Cloze]:
    """Yield sequences, report progress, and record where in the split each hidden token stands."""
    for where, cloze in clozes.with_positions():
        positions.append(where)
        yield cloze
        advance(1)


def joined(found: Sequence[ClozeScores]) -> ClozeScores:
    """Return the scores of all batches as one.

    Raises:
        EvaluationError: nothing was scored.
    """
    if not found:
        raise EvaluationError("no held-out token could be hidden", "held-out text", "prepare a larger corpus")
    columns = ([getattr(scores, name) for scores in found] for name in ("target_ids", "nats", "ranks", "best_nats"))
    return ClozeScores(*map(np.concatenate, columns))


def items_by_document(corpus: Corpus, positions_M: np.ndarray, scores: ClozeScores) -> Items:
    """Return one item per document: tokens of one text are not independent samples, so a bootstrap draws documents.

    Args:
        corpus: its held-out split was scored.
        positions_M: int64 [M], where in the split the scored tokens stand; see `HeldOutClozes.with_positions`.
        scores: of these tokens.

    Returns:
        With sums over the tokens of each document, of all and of clean ones. "num_text_bytes" is how much text the
        scored tokens stand for, by what a token of the split stands for on average.
    """
    split, record = corpus.split("held_out"), corpus.manifest.splits["held_out"]
    documents, document_index_M = np.unique(
        np.searchsorted(split.first_tokens, positions_M, side="right") - 1, return_inverse=True
    )
    parts = {"": np.ones(len(positions_M), bool)}
    if split.is_shared is not None:
        parts["clean_"] = are_clean(split, positions_M)
    columns: dict[str, np.ndarray] = {}
    for part, is_part_M in parts.items():
        columns[f"{part}nats"] = np.bincount(document_index_M, scores.nats * is_part_M)
        for name, is_counted_M in (
            ("scored_tokens", is_part_M),
            ("top1_correct", is_part_M & (scores.ranks < 1)),
            ("top5_correct", is_part_M & (scores.ranks < 5)),
        ):
            columns[f"num_{part}{name}"] = np.bincount(document_index_M[is_counted_M], minlength=len(documents))
    columns["num_text_bytes"] = columns["num_scored_tokens"] * (record.num_text_bytes / record.num_tokens)
    ids = np.array([f"document {number}" for number in documents])
    return Items(ids, columns, np.zeros(len(ids), dtype=np.int64))


def are_clean(split: TokenSplit, positions_M: np.ndarray) -> np.ndarray:
    """Return which positions in the split hold clean tokens, bool [M]; all where the corpus does not say."""
    return np.ones(len(positions_M), bool) if split.is_shared is None else ~split.is_shared[positions_M]


def means_of(items: Items) -> dict[str, float]:
    """Return cross-entropy (nats per scored token) and accuracies (0 to 1), and bits per byte.

    First, with "clean_" before their names, those of clean tokens, where there are any and the corpus says which.

    Bits per byte are the cross-entropy of all tokens over the UTF-8 bytes that a token of the split stands for, so that
    models with different tokenizers can be put side by side. Of a masked model the figure is a pseudo one: every token
    is guessed from both sides, so no text could be compressed to so few bits; and one token in seven is hidden, whether
    tokens are short or long. Unknown tokens are never asked for and count as average ones.
    """
    sums = {name: float(column.sum()) for name, column in items.columns.items()}
    means = {}
    for part in PARTS:
        if count := sums.get(f"num_{part}scored_tokens"):
            means |= {
                f"{part}cross_entropy": sums[f"{part}nats"] / count,
                f"{part}top1_accuracy": sums[f"num_{part}top1_correct"] / count,
                f"{part}top5_accuracy": sums[f"num_{part}top5_correct"] / count,
            }
    if "num_text_bytes" in sums:  # items of earlier versions lack it
        means["bits_per_byte"] = sums["nats"] / (sums["num_text_bytes"] * math.log(2))
    return means


def notes_on_clean_tokens(corpus: Corpus) -> list[str]:
    """Return in words which tokens are clean; nothing where the corpus does not say."""
    shared, fraction = corpus.manifest.shared_runs, corpus.manifest.shared_fraction
    if shared is None:
        return []
    return [
        f"Clean tokens stand in no run of {shared.run_tokens} tokens that the training text has too; {fraction:.1%} of "
        "the held-out tokens do, and may be remembered."
    ]
