"""Word order: whether a model prefers a sentence to the same with two neighbouring words exchanged.

Source: the pairs are made here, for any text whose words stand between spaces; scored as minimal pairs (Salazar et al.
    2020, Masked Language Model Scoring, arXiv:1910.14659).
Departures: an exchange may leave a sentence acceptable ("black and white"), so nobody reaches 100 %.
"""

import re
from zlib import crc32

import numpy as np
from pydantic import Field

from maskwright.core.errors import EvaluationError
from maskwright.core.randomness import numpy_generator
from maskwright.corpus.corpus import Corpus
from maskwright.evaluation.datasets.pairs import Pairs
from maskwright.evaluation.evaluated_model import EvaluatedModel
from maskwright.evaluation.examples import short_texts
from maskwright.evaluation.items import Items
from maskwright.evaluation.pseudo_likelihood import Mode
from maskwright.evaluation.scorer import MaskedLanguageModel
from maskwright.evaluation.tasks.base import (
    Task,
    TaskConfig,
    TaskResult,
    corpus_of,
    corpus_sha256,
    require_same_tokenizer,
)
from maskwright.evaluation.tasks.minimal_pairs import score_pairs

WORD = re.compile(r"[^\W\d_]+")


class WordOrder(Task):
    """Choose the sentence whose words are in order.

    Scores: `accuracy`, from 0 to 1, a tie counting half; `num_pairs`, `num_ties`. Baseline `chance`: 0.5, which is also
    what a model that knows only how frequent words are scores, as both sentences have the same words.
    """

    class Config(TaskConfig):
        """Settings."""

        num_pairs: int = Field(default=300, ge=1, description="how many pairs; fewer where the text has no more")
        mode: Mode = Field(default="original", description="how sentences are scored; see the kind minimal_pairs")

    citation = "Salazar et al. 2020, Masked Language Model Scoring, arXiv:1910.14659"
    main_metric = "accuracy"
    needs_corpus = True

    def data_sha256(self, subject: EvaluatedModel) -> dict[str, str]:
        """Return the corpus's checksums.

        Raises:
            EvaluationError: there is no corpus.
        """
        return corpus_sha256(subject)

    def evaluate(self, subject: EvaluatedModel, seed: int) -> TaskResult:
        """Score a model on sentences of its corpus's held-out split.

        Raises:
            EvaluationError: the corpus was made with another tokenizer, or its text has no words to exchange.
        """
        model, corpus = subject.masked_language_model, corpus_of(subject)
        require_same_tokenizer(model, corpus)
        pairs = make_exchanged_pairs(model, corpus, self.config.num_pairs, seed)
        items = score_pairs(model, pairs, self.config.mode, "half").items
        shown = [{"good": good, "bad": bad} for good, bad in zip(pairs.good[:3], pairs.bad[:3], strict=True)]
        return TaskResult(
            scores=self.scores(items),
            baselines={"chance": {"accuracy": 0.5}},
            settings={"pairs": shown},
            items=items,
        )

    def scores(self, items: Items) -> dict[str, float]:
        """Return the scores of some items; see the class."""
        is_tie = items.columns["good_log_likelihood"] == items.columns["bad_log_likelihood"]
        return {
            "accuracy": float(items.columns["credit"].mean()),
            "num_pairs": len(items),
            "num_ties": int(is_tie.sum()),
        }


def make_exchanged_pairs(model: MaskedLanguageModel, corpus: Corpus, num_pairs: int, seed: int) -> Pairs:
    """Return sentences of held-out text, each paired with itself after an exchange.

    The model plays no part in this choice.

    Raises:
        EvaluationError: no sentence has two neighbouring words that could be exchanged.
    """
    generator = numpy_generator(seed, "word_order")
    exchanges: dict[str, str] = {}
    for sentence in short_texts(model, corpus.split("held_out"), generator):
        if sentence not in exchanges and (exchanged := exchange_words(sentence, generator)) is not None:
            exchanges[sentence] = exchanged
        if len(exchanges) == num_pairs:
            break
    if not exchanges:
        raise EvaluationError(
            f"the held-out text of {corpus.folder} has no sentence in which two words can be exchanged",
            "text whose words stand between spaces",
        )
    # The text is in the name: models that read shorter texts find other sentences, which are not to be paired.
    ids = np.array([f"sentence {number} ({crc32(text.encode()):08x})" for number, text in enumerate(exchanges, 1)])
    paradigm_index = np.zeros(len(ids), dtype=np.int64)
    return Pairs(ids, list(exchanges), list(exchanges.values()), paradigm_index, ["word_order"])


def exchange_words(sentence: str, generator: np.random.Generator) -> str | None:
    """Exchange two neighbouring words; None if no two can be.

    The first word stays, its capital would tell; so do words with punctuation or digits.
    """
    words = sentence.split()
    candidates = [
        position
        for position in range(1, len(words) - 1)
        if WORD.fullmatch(words[position])
        and WORD.fullmatch(words[position + 1])
        and words[position].casefold() != words[position + 1].casefold()
    ]
    if not candidates:
        return None
    position = candidates[int(generator.integers(len(candidates)))]
    words[position], words[position + 1] = words[position + 1], words[position]
    return " ".join(words)
