"""Classification of texts or pairs of texts by fine-tuning; also multiple choice, as one row per choice.

Source: Devlin et al. 2018, BERT, arXiv:1810.04805, section 4.1. Multiple choice: Radford et al. 2018, Improving
    Language Understanding by Generative Pre-Training, section 3.3.
Departures: a choice is right or wrong by itself during training; the choices of a question meet only in the answer.
"""

from collections.abc import Mapping

import numpy as np

from maskwright.evaluation.bag_of_words import class_probabilities
from maskwright.evaluation.datasets.labelled import LabelledTexts, Splits
from maskwright.evaluation.fine_tuning.encoding import TextEncoder
from maskwright.evaluation.fine_tuning.model import CrossEntropy, SequenceHead, TaskHead
from maskwright.evaluation.fine_tuning.questions import Questions
from maskwright.evaluation.fine_tuning.task import FineTunedTask, order_items
from maskwright.evaluation.items import Items
from maskwright.evaluation.metrics import note_undefined


class Classification(FineTunedTask):
    """Predict the class of a text or a pair.

    Scores: accuracy and F1 from 0 to 1, Matthews' correlation from -1 to 1. Baselines: `majority`, the class that most
    training rows have, for multiple choice `first_choice`; and `bag_of_words` (`evaluation/bag_of_words.py`).
    """

    kind = "classification"
    loss = CrossEntropy()
    citation = "Devlin et al. 2018, BERT: Pre-training of Deep Bidirectional Transformers, arXiv:1810.04805"

    def questions(self, encoder: TextEncoder, rows: LabelledTexts, splits: Splits) -> Questions:
        return Questions.ask_first_tokens(encoder.encode(rows.texts), np.array(rows.targets, dtype=np.int64))

    def head(self, width: int, splits: Splits, dropout: float) -> TaskHead:
        return SequenceHead(width, len(splits.label_names), dropout, self.config.training.pooling)

    def items(self, questions: Questions, outputs_MC: np.ndarray, rows: LabelledTexts, splits: Splits) -> Items:
        """See `FineTunedTask`; further the probability that the model gave to the right class."""
        probabilities_NC = softmax(outputs_MC)
        if rows.question_ids:
            names, chosen, right = rows.choose_answers(probabilities_NC[:, 1])
            return order_items(rows, {"prediction": chosen, "target": right}, ids=names)
        target = np.array(rows.targets, dtype=np.int64)
        columns = {
            "prediction": probabilities_NC.argmax(axis=1),
            "target": target,
            "probability_of_target": probabilities_NC[np.arange(len(target)), target].round(6),
        }
        return order_items(rows, columns)

    def guesses(self, splits: Splits) -> Mapping[str, Items]:
        rows = splits.test
        likely_NC = class_probabilities(splits.train, rows, len(splits.label_names))
        if rows.question_ids:
            scores = {"first_choice": np.zeros(len(rows)), "bag_of_words": likely_NC[:, 1]}
            answers = {name: rows.choose_answers(each) for name, each in scores.items()}
            return {
                name: order_items(rows, {"prediction": chosen, "target": right}, ids=names)
                for name, (names, chosen, right) in answers.items()
            }
        target = np.array(rows.targets, dtype=np.int64)
        most_frequent = np.bincount(np.array(splits.train.targets, dtype=np.int64)).argmax()
        predictions = {"majority": np.full_like(target, most_frequent), "bag_of_words": likely_NC.argmax(axis=1)}
        return {name: order_items(rows, {"prediction": each, "target": target}) for name, each in predictions.items()}

    def notes(self, items: Items) -> list[str]:
        has_correlation = "matthews_correlation" in self.metrics
        return note_undefined(items.columns["prediction"], items.columns["target"]) if has_correlation else []


def softmax(logits_NC: np.ndarray) -> np.ndarray:
    """Return probabilities, float64 [N, C]."""
    scores_NC = np.exp(logits_NC.astype(np.float64) - logits_NC.max(axis=1, keepdims=True))
    return scores_NC / scores_NC.sum(axis=1, keepdims=True)
