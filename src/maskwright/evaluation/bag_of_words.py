"""What the words of a text alone tell about its class or number: the baseline that no encoder should fall below.

Words and pairs of neighbouring words, weighed by TF-IDF, with logistic or ridge regression. Of two texts, the words of
each and those that both have are features. Nothing is tuned.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from maskwright.core.log import say
from maskwright.evaluation.datasets.labelled import LabelledTexts

LARGE = 20_000
"""With more rows to learn from, it is said that this takes a while."""

Texts = Sequence[tuple[str, ...]]


class BagOfWords:
    """Features of texts: what is known of words is learned from the training texts."""

    def __init__(self, texts: Texts) -> None:
        """Count the words of the training texts.

        Args:
            texts: [N], the one or two texts of each row.
        """
        self._weigh = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|[^\w\s]")
        self._weigh.fit([text for row in texts for text in row])

    def features(self, texts: Texts) -> scipy.sparse.csr_matrix:
        """Return features, float64 [N, words], sparse."""
        columns = [self._weigh.transform(column) for column in zip(*texts, strict=True)]
        if len(columns) == 2:
            columns.append(columns[0].multiply(columns[1]))
        return scipy.sparse.csr_matrix(scipy.sparse.hstack(columns))


def class_probabilities(train: LabelledTexts, test: LabelledTexts, num_classes: int) -> np.ndarray:
    """Return how likely each class is for each row, float64 [N, C]."""
    words, features = _learned(train)
    model = LogisticRegression(C=10.0, max_iter=300)
    targets = np.array(train.targets, dtype=np.int64)
    found_NC = np.zeros((len(test), num_classes))
    if len(np.unique(targets)) == 1:
        found_NC[:, targets[0]] = 1.0
        return found_NC
    model.fit(features, targets)
    found_NC[:, model.classes_] = model.predict_proba(words.features(test.texts))
    return found_NC


def numbers(train: LabelledTexts, test: LabelledTexts) -> np.ndarray:
    """Return a number for each row, float64 [N]."""
    words, features = _learned(train)
    targets = np.array(train.targets, dtype=np.float64)
    return Ridge(alpha=1.0).fit(features, targets).predict(words.features(test.texts))


def _learned(train: LabelledTexts) -> tuple[BagOfWords, scipy.sparse.csr_matrix]:
    if len(train) > LARGE:
        say(f"the bag of words learns from {len(train):,} texts")
    words = BagOfWords(train.texts)
    return words, words.features(train.texts)
