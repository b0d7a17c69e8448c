"""A number for a text or a pair of texts, such as how similar two sentences are, by fine-tuning.

Source: Devlin et al. 2018, BERT, arXiv:1810.04805, section 4.1 and the released code (STS-B: mean squared error).
Departures: the model learns numbers in units of the training data's standard deviation, from its mean, so that targets
    of any size are learned with one learning rate; predictions are turned back.
"""

from collections.abc import Mapping

import numpy as np

from maskwright.evaluation.bag_of_words import numbers
from maskwright.evaluation.datasets.labelled import LabelledTexts, Splits
from maskwright.evaluation.fine_tuning.encoding import TextEncoder
from maskwright.evaluation.fine_tuning.model import SequenceHead, SquaredError, TaskHead
from maskwright.evaluation.fine_tuning.questions import Questions
from maskwright.evaluation.fine_tuning.task import FineTunedTask, order_items
from maskwright.evaluation.items import Items
from maskwright.evaluation.metrics import note_undefined


class Regression(FineTunedTask):
    """Predict a number.

    Scores: Pearson's and Spearman's correlation from -1 to 1, the mean absolute error in the unit of the targets.
    Baselines: `mean`, the training data's mean, whatever the text; and `bag_of_words` (`evaluation/bag_of_words.py`).
    """

    kind = "regression"
    loss = SquaredError()
    citation = "Devlin et al. 2018, BERT: Pre-training of Deep Bidirectional Transformers, arXiv:1810.04805"

    def questions(self, encoder: TextEncoder, rows: LabelledTexts, splits: Splits) -> Questions:
        """See `FineTunedTask`; targets are relative to the training data."""
        mean, deviation = scale_of(splits)
        targets = (np.array(rows.targets, dtype=np.float64) - mean) / deviation
        return Questions.ask_first_tokens(encoder.encode(rows.texts), targets.astype(np.float32))

    def head(self, width: int, splits: Splits, dropout: float) -> TaskHead:
        return SequenceHead(width, 1, dropout, self.config.training.pooling)

    def items(self, questions: Questions, outputs_MC: np.ndarray, rows: LabelledTexts, splits: Splits) -> Items:
        mean, deviation = scale_of(splits)
        prediction = outputs_MC[:, 0].astype(np.float64) * deviation + mean
        return order_items(rows, {"prediction": prediction, "target": np.array(rows.targets, dtype=np.float64)})

    def guesses(self, splits: Splits) -> Mapping[str, Items]:
        target = np.array(splits.test.targets, dtype=np.float64)
        predictions = {
            "mean": np.full(len(target), scale_of(splits)[0]),
            "bag_of_words": numbers(splits.train, splits.test),
        }
        return {
            name: order_items(splits.test, {"prediction": each, "target": target}) for name, each in predictions.items()
        }

    def notes(self, items: Items) -> list[str]:
        return note_undefined(items.columns["prediction"], items.columns["target"])


def scale_of(splits: Splits) -> tuple[float, float]:
    """Return mean and standard deviation of the training data's targets; 1 if all are equal."""
    targets = np.array(splits.train.targets, dtype=np.float64)
    return float(targets.mean()), float(targets.std()) or 1.0
