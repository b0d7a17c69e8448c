"""Metrics: functions of an item's columns, taken from scikit-learn and scipy where those have them.

A call takes about a millisecond, so a thousand bootstrap resamples take seconds. All values are between 0 and 1, or
between -1 and 1 for correlations.

An undefined metric is 0, the value of a model that tells nothing apart, and `note_undefined` says so. Matthews' and the
other correlations are undefined if all predictions or all targets are equal; F1 is undefined if the class neither
occurs nor is predicted.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import sklearn.metrics
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from maskwright.core.errors import RecipeError, suggest_nearest
from maskwright.evaluation.datasets.section import Kind


def accuracy(prediction: np.ndarray, target: np.ndarray) -> float:
    """Return the share of items [N] that are right."""
    with _skip_validation():
        return float(accuracy_score(target, prediction))


def f1(prediction: np.ndarray, target: np.ndarray) -> float:
    """Return F1 of class 1, for int64 [N] of two classes."""
    with _skip_validation():
        return float(f1_score(target, prediction, zero_division=0))  # pyright: ignore[reportArgumentType]


def macro_f1(prediction: np.ndarray, target: np.ndarray) -> float:
    """Return the mean F1 of all classes that are there or predicted, for int64 [N]."""
    with _skip_validation():
        value = f1_score(target, prediction, average="macro", zero_division=0)  # pyright: ignore[reportArgumentType]
        return float(value)


def matthews_correlation(prediction: np.ndarray, target: np.ndarray) -> float:
    """Return Matthews' correlation coefficient of int64 [N], for any number of classes.

    Source: Gorodkin 2004, Comparing two K-category assignments by a K-category correlation coefficient.
    """
    if is_constant(prediction) or is_constant(target):
        return 0.0
    with _skip_validation():
        return float(matthews_corrcoef(target, prediction))


def pearson(prediction: np.ndarray, target: np.ndarray) -> float:
    """Return Pearson's correlation of float [N]."""
    if is_constant(prediction) or is_constant(target):
        return 0.0
    return float(pearsonr(prediction, target).statistic)  # pyright: ignore[reportAttributeAccessIssue]


def spearman(prediction: np.ndarray, target: np.ndarray) -> float:
    """Return Spearman's rank correlation of float [N]; ties have their mean rank."""
    if is_constant(prediction) or is_constant(target):
        return 0.0
    return float(spearmanr(prediction, target).statistic)  # pyright: ignore[reportAttributeAccessIssue]


def mean_absolute_error(prediction: np.ndarray, target: np.ndarray) -> float:
    """Return the mean distance of numbers [N], in the targets' own unit."""
    with _skip_validation():
        return float(sklearn.metrics.mean_absolute_error(target, prediction))


def _skip_validation() -> AbstractContextManager[None]:
    """Keep scikit-learn from checking columns that were checked when they were made: a third of the time of a call."""
    return sklearn.config_context(assume_finite=True, skip_parameter_validation=True)


def word_accuracy(num_right_words: np.ndarray, num_words: np.ndarray) -> float:
    """Return the share of words that are right, from counts a sentence [N]."""
    return _ratio(num_right_words.sum(), num_words.sum())


def entity_f1(num_right: np.ndarray, num_predicted: np.ndarray, num_true: np.ndarray) -> float:
    """Return F1 over whole entities, from counts a sentence [N] by `entity_counts`.

    Source: Tjong Kim Sang and De Meulder 2003, Introduction to the CoNLL-2003 Shared Task, section 2.4.
    """
    return _f1_of(num_right.sum(), num_predicted.sum(), num_true.sum())


def mean(values: np.ndarray) -> float:
    """Return the mean of one score per item [N]."""
    return float(np.mean(values))


@dataclass(frozen=True)
class Metric:
    """A metric by name.

    Attributes:
        function: of the columns, in their order.
        columns: names of the items' columns that it takes.
        about: what it is, for `maskwright list` and the documentation.
        needs_two_classes: whether it makes sense for classes 0 and 1 only.
    """

    function: Callable[..., float]
    columns: tuple[str, ...]
    about: str
    needs_two_classes: bool = False

    def __call__(self, columns: Mapping[str, np.ndarray]) -> float:
        """Return the value for some items."""
        return self.function(*[columns[name] for name in self.columns])


_PAIR = ("prediction", "target")
_ENTITIES = ("num_right_entities", "num_predicted_entities", "num_true_entities")

METRICS: dict[Kind, dict[str, Metric]] = {
    "classification": {
        "accuracy": Metric(accuracy, _PAIR, "share of rows that are right"),
        "f1": Metric(f1, _PAIR, "F1 of the second class", needs_two_classes=True),
        "macro_f1": Metric(macro_f1, _PAIR, "mean F1 of the classes"),
        "matthews_correlation": Metric(matthews_correlation, _PAIR, "Matthews' correlation coefficient"),
    },
    "regression": {
        "pearson": Metric(pearson, _PAIR, "Pearson's correlation"),
        "spearman": Metric(spearman, _PAIR, "Spearman's rank correlation"),
        "mean_absolute_error": Metric(mean_absolute_error, _PAIR, "mean distance, in the unit of the targets"),
    },
    "token_classification": {
        "accuracy": Metric(word_accuracy, ("num_right_words", "num_words"), "share of words that are right"),
        "entity_f1": Metric(entity_f1, _ENTITIES, "F1 over whole entities, from tags such as B-PER and I-PER"),
    },
    "question_answering": {
        "f1": Metric(mean, ("f1",), "mean overlap of words with the best accepted answer"),
        "exact_match": Metric(mean, ("exact_match",), "share of answers that equal an accepted one"),
    },
}
"""Metrics of each kind, by name."""

DEFAULT_METRICS: dict[Kind, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1"),
    "regression": ("pearson", "spearman"),
    "token_classification": ("accuracy",),
    "question_answering": ("f1", "exact_match"),
}
"""What is scored where a task's YAML names no metrics. The first of a list is the main one."""


def metrics_of(kind: Kind, names: Sequence[str]) -> dict[str, Metric]:
    """Return metrics by their names; those of `DEFAULT_METRICS` where none are named.

    Raises:
        RecipeError: a kind has no such metric.
    """
    known = METRICS[kind]
    for name in names:
        if name not in known:
            raise RecipeError(
                f"metrics: {kind} has no metric {name!r}{suggest_nearest(name, known)}", "one of " + ", ".join(known)
            )
    return {name: known[name] for name in names or DEFAULT_METRICS[kind]}


def note_undefined(prediction: np.ndarray, target: np.ndarray) -> list[str]:
    """Return a note, for a reader of the scores, where all predictions or all targets are equal."""
    if is_constant(prediction):
        return ["the model predicts the same for every row: a correlation is undefined and counted as 0"]
    if is_constant(target):
        return ["every row has the same target: a correlation is undefined and counted as 0"]
    return []


def is_constant(values: np.ndarray) -> bool:
    """Return whether all values are equal."""
    return bool(np.all(values == values[0]))


def _f1_of(num_right: float, num_predicted: float, num_true: float) -> float:
    """Return the harmonic mean of precision and recall."""
    return _ratio(2 * num_right, num_predicted + num_true)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


# --- tags of words -----------------------------------------------------------------------------------------------


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Return the entities of a sentence as (type, first word, end).

    As conlleval counts: an entity begins at B-, and at an I- that does not go on with one of its type. So tags in IOB1
    (CoNLL-2003 as published), IOB2 and without any B- are all read rightly.
    """
    found: set[tuple[str, int, int]] = set()
    begin, kind = 0, ""
    for index, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        name = name or prefix if prefix != "O" else ""
        if kind and (name != kind or prefix == "B"):
            found.add((kind, begin, index))
            kind = ""
        if name and not kind:
            begin, kind = index, name
    return found


def entity_counts(prediction: Sequence[str], target: Sequence[str]) -> tuple[int, int, int]:
    """Return how many entities of a sentence are right, are predicted, and are true."""
    predicted, true = entities(prediction), entities(target)
    return len(predicted & true), len(predicted), len(true)


# --- answers -----------------------------------------------------------------------------------------------------

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(answer: str) -> str:
    """Return an answer in lower case, without punctuation, English articles and doubled white space.

    Source: Rajpurkar et al. 2016, SQuAD, arXiv:1606.05250, section 6.1, and the authors' evaluation script.
    """
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 if a prediction equals one of the accepted answers, else 0; no answers: it must be empty."""
    return float(normalise_answer(prediction) in {normalise_answer(answer) for answer in answers or [""]})


def answer_f1(prediction: str, answers: Sequence[str]) -> float:
    """Return the overlap of words with the best of the accepted answers; no answers: it must be empty."""
    return max(
        _overlap(normalise_answer(prediction).split(), normalise_answer(answer).split()) for answer in answers or [""]
    )


def _overlap(predicted: Sequence[str], true: Sequence[str]) -> float:
    if not predicted or not true:
        return float(predicted == true)
    num_common = sum((Counter(predicted) & Counter(true)).values())
    return _f1_of(num_common, len(predicted), len(true))
