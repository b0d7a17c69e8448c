"""A class for every word of a sentence, such as its part of speech or the name it is part of, by fine-tuning.

Source: Devlin et al. 2018, BERT, arXiv:1810.04805, section 5.3: the first token of a word stands for it.
Departures: words are joined with spaces before they are tokenized, so that text looks as it did in pre-training.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding

from maskwright.evaluation.datasets.labelled import LabelledTexts, Splits
from maskwright.evaluation.fine_tuning.encoding import TextEncoder, num_cut
from maskwright.evaluation.fine_tuning.model import CrossEntropy, PositionHead, TaskHead
from maskwright.evaluation.fine_tuning.questions import Questions
from maskwright.evaluation.fine_tuning.task import FineTunedTask, order_items
from maskwright.evaluation.items import Items
from maskwright.evaluation.metrics import entity_counts


@dataclass(frozen=True)
class WordQuestions(Questions):
    """Questions about words.

    Attributes:
        words: int64 [M], the asked words, counted over all rows; words without a token, or cut off, are not asked.
    """

    words: np.ndarray


class TokenClassification(FineTunedTask):
    """Predict the class of every word.

    Scores from 0 to 1: `accuracy` over words, `entity_f1` over whole entities for tags such as B-PER. A word that the
    model does not see (cut off, or without a token) counts as guessed by `majority`. Baselines: `majority`, the most
    frequent class of the training data; `by_word`, the most frequent class of the word itself.
    """

    kind = "token_classification"
    loss = CrossEntropy()
    citation = "Devlin et al. 2018, BERT: Pre-training of Deep Bidirectional Transformers, arXiv:1810.04805"

    def questions(self, encoder: TextEncoder, rows: LabelledTexts, splits: Splits) -> WordQuestions:
        encodings = encoder.encodings([(" ".join(words),) for words in rows.texts])
        positions = [first_tokens(encoding, words) for encoding, words in zip(encodings, rows.texts, strict=True)]
        position, num_words = np.concatenate(positions), np.array([len(one) for one in positions], dtype=np.int64)
        is_seen = position >= 0
        row_of_word = np.repeat(np.arange(len(rows)), num_words)
        return WordQuestions(
            sequences=encoder.sequences(encodings, num_cut(encodings)),
            asked=position[is_seen],
            num_asked=np.bincount(row_of_word[is_seen], minlength=len(rows)),
            targets=flat_targets(rows)[is_seen],
            words=np.flatnonzero(is_seen),
        )

    def head(self, width: int, splits: Splits, dropout: float) -> TaskHead:
        return PositionHead(width, len(splits.label_names), dropout)

    def items(self, questions: Questions, outputs_MC: np.ndarray, rows: LabelledTexts, splits: Splits) -> Items:
        assert isinstance(questions, WordQuestions)
        target = flat_targets(rows)
        prediction = np.full_like(target, most_frequent_class(flat_targets(splits.train)))
        prediction[questions.words] = outputs_MC.argmax(axis=1)
        return count_items(rows, prediction, splits.label_names)

    def guesses(self, splits: Splits) -> Mapping[str, Items]:
        majority = most_frequent_class(flat_targets(splits.train))
        seen: dict[str, Counter[int]] = defaultdict(Counter)
        for words, targets in zip(splits.train.texts, splits.train.targets, strict=True):
            for word, target in zip(words, targets, strict=True):
                seen[word][target] += 1
        usual = {word: max(counts, key=lambda one: (counts[one], -one)) for word, counts in seen.items()}
        by_word = np.array([usual.get(word, majority) for words in splits.test.texts for word in words])
        return {
            "majority": count_items(splits.test, np.full_like(by_word, majority), splits.label_names),
            "by_word": count_items(splits.test, by_word, splits.label_names),
        }


def first_tokens(encoding: Encoding, words: Sequence[str]) -> np.ndarray:
    """Return the position of each word's first token in its sequence, int64; -1 for words without one.

    Args:
        encoding: of the words, joined with spaces.
        words: at least one.
    """
    sizes = np.array([len(word) for word in words])
    word_ends = np.cumsum(sizes + 1) - 1
    word_starts = word_ends - sizes
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    # Some tokenizers count the space before a word to its first token, so tokens are found by where they end.
    token_ends = np.where(np.array(encoding.special_tokens_mask) == 1, -1, offsets[:, 1])
    is_text = np.flatnonzero(token_ends >= 0)
    nth = np.searchsorted(token_ends[is_text], word_starts, side="right")
    is_found = nth < len(is_text)
    position = np.full(len(words), -1, dtype=np.int64)
    candidate = is_text[nth[is_found]]
    begins_inside = offsets[candidate, 0] < word_ends[is_found]
    position[np.flatnonzero(is_found)[begins_inside]] = candidate[begins_inside]
    return position


def count_items(rows: LabelledTexts, prediction: np.ndarray, label_names: Sequence[str]) -> Items:
    """Return one item per sentence, with counts of words and entities.

    Args:
        rows: the sentences, with the true classes.
        prediction: int64, the classes of all words, sentence after sentence.
        label_names: the names of the classes.
    """
    num_words = np.array([len(words) for words in rows.texts], dtype=np.int64)
    sentence = np.repeat(np.arange(len(rows)), num_words)
    is_right = prediction == flat_targets(rows)
    tags = np.array(label_names, dtype=object)[prediction]
    predicted = np.split(tags, np.cumsum(num_words)[:-1])
    true = [[str(label_names[target]) for target in targets] for targets in rows.targets]
    counts = [entity_counts(one.tolist(), other) for one, other in zip(predicted, true, strict=True)]
    num_right, num_predicted, num_true = np.array(counts, dtype=np.int64).T
    columns = {
        "num_right_words": np.bincount(sentence[is_right], minlength=len(rows)),
        "num_words": num_words,
        "num_right_entities": num_right,
        "num_predicted_entities": num_predicted,
        "num_true_entities": num_true,
    }
    return order_items(rows, columns, texts={"prediction": [" ".join(one.tolist()) for one in predicted]})


def flat_targets(rows: LabelledTexts) -> np.ndarray:
    """Return the classes of all words, sentence after sentence, int64."""
    return np.array([target for targets in rows.targets for target in targets], dtype=np.int64)


def most_frequent_class(targets: np.ndarray) -> int:
    """Return the class that occurs most often; the lowest one in a tie."""
    return int(np.bincount(targets).argmax())
