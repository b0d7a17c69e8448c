"""How well a model restores hidden tokens of unseen text: masked cross-entropy and top-k accuracy.

Source: Devlin et al. 2019, BERT, arXiv:1810.04805, section 3.1 (15 % of the tokens).
Departures: hidden tokens are always [MASK] and always the same ones, whatever a model was trained with, so that
models with one tokenizer can be compared.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from maskwright.batching.row_plan import NUM_SPECIALS
from maskwright.core.errors import EvaluationError
from maskwright.core.log import progress
from maskwright.core.randomness import numpy_generator
from maskwright.core.vocabulary import Vocabulary
from maskwright.corpus.corpus import TokenSplit
from maskwright.evaluation.evaluated_model import EvaluatedModel
from maskwright.evaluation.examples import fill_mask_examples
from maskwright.evaluation.items import Items
from maskwright.evaluation.scorer import Cloze, ClozeScores
from maskwright.evaluation.tasks.base import Task, TaskConfig, TaskResult, corpus_of, require_same_tokenizer


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
        return (cloze for _, cloze in self.by_document())

    def by_document(self) -> Iterator[tuple[int, Cloze]]:
        """Yield the number of the document and the sequence, for those that have a hidden token."""
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
                    yield document, Cloze(masked[start:end], inside - start, token_ids[inside])

    def _document_tokens(self, document: int) -> np.ndarray:
        length = self._split.document_lengths[document : document + 1]
        return self._split.gather_tokens(np.array([document]), np.zeros(1, dtype=np.int64), length).token_ids


@dataclass
class ScoreTally:
    """Sums over scored tokens; the means are computed once, at the end."""

    count: int = 0
    nats: float = 0.0
    num_top1: int = 0
    num_top5: int = 0

    def add(self, scores: ClozeScores) -> None:
        """Add one batch."""
        self.count += len(scores.nats)
        self.nats += float(scores.nats.sum())
        self.num_top1 += int((scores.ranks < 1).sum())
        self.num_top5 += int((scores.ranks < 5).sum())

    def means(self) -> dict[str, float]:
        """Return the cross-entropy (nats per scored token) and the accuracies (0 to 1)."""
        if not self.count:
            raise EvaluationError("no held-out token could be hidden", "held-out text", "prepare a larger corpus")
        return {
            "cross_entropy": self.nats / self.count,
            "top1_accuracy": self.num_top1 / self.count,
            "top5_accuracy": self.num_top5 / self.count,
        }


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
    return ClozeScores(target_ids, np.log(counts_V.sum()) - np.log(targets), rank_V[target_ids])


class HeldOut(Task):
    """Restore hidden tokens of held-out text.

    Scores: `cross_entropy` in nats per scored token, `top1_accuracy` and `top5_accuracy` from 0 to 1,
    `num_scored_tokens`, and the sums they come from. Baseline `unigram`: always predict by training frequency.
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
        """Return the corpus's checksum.

        Raises:
            EvaluationError: there is no corpus.
        """
        return {"corpus": corpus_of(subject).manifest.content_sha256}

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
        of_unigrams, found = ScoreTally(), []
        documents: list[int] = []
        with progress("Scoring held-out text", len(clozes)) as advance:
            for scores in model.score(track_documents(clozes, documents, advance)):
                found.append(scores)
                of_unigrams.add(unigram_scores(corpus.unigram_counts_V, vocabulary.special_ids, scores.target_ids))
        items = items_by_document(documents, found)
        return TaskResult(
            scores=self.scores(items),
            baselines={"unigram": of_unigrams.means()},
            examples=fill_mask_examples(model, split, self.config.num_examples, seed),
            settings={
                "used_sequence_length": sequence_length,
                "num_sequences": len(clozes),
                "num_tokens": clozes.num_tokens,
                "num_documents_in_split": split.num_documents,
            },
            items=items,
        )

    def scores(self, items: Items) -> dict[str, float]:
        """Return the scores of some documents; see the class."""
        sums = {name: column.sum() for name, column in items.columns.items()}
        count = int(sums["num_scored_tokens"])
        return {
            "cross_entropy": float(sums["nats"] / count),
            "top1_accuracy": float(sums["num_top1_correct"] / count),
            "top5_accuracy": float(sums["num_top5_correct"] / count),
            "num_scored_tokens": count,
            "sum_nats": float(sums["nats"]),
            "sum_top1_correct": int(sums["num_top1_correct"]),
            "sum_top5_correct": int(sums["num_top5_correct"]),
        }


def track_documents(clozes: HeldOutClozes, documents: list[int], advance: Callable[[float], None]) -> Iterator[Cloze]:
    """Yield sequences, report progress, and record the document of each hidden token."""
    for document, cloze in clozes.by_document():
        documents.extend([document] * len(cloze.positions))
        yield cloze
        advance(1)


def items_by_document(documents: Sequence[int], found: Sequence[ClozeScores]) -> Items:
    """Return one item per document: tokens of one text are not independent samples, so a bootstrap draws documents.

    Args:
        documents: of each scored token.
        found: the scores of those tokens, in the same order.

    Raises:
        EvaluationError: nothing was scored.
    """
    if not documents:
        raise EvaluationError("no held-out token could be hidden", "held-out text", "prepare a larger corpus")
    names, document_index_M = np.unique(np.array(documents), return_inverse=True)
    nats_M = np.concatenate([scores.nats for scores in found])
    ranks_M = np.concatenate([scores.ranks for scores in found])
    columns = {
        "nats": np.bincount(document_index_M, nats_M),
        "num_scored_tokens": np.bincount(document_index_M),
        "num_top1_correct": np.bincount(document_index_M[ranks_M < 1], minlength=len(names)),
        "num_top5_correct": np.bincount(document_index_M[ranks_M < 5], minlength=len(names)),
    }
    ids = np.array([f"document {number}" for number in names])
    return Items(ids, columns, np.zeros(len(ids), dtype=np.int64))
