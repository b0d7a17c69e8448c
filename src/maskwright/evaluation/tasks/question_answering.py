"""Extractive question answering (as SQuAD), by fine-tuning.

Source: Devlin et al. 2018, BERT, arXiv:1810.04805, sections 4.2 and 4.3: start and end of the answer; long passages in
    windows that overlap; no answer is the first token.
Departures: no threshold for "no answer" is tuned, and only data that has such questions allows it; the best span is
    searched among all, not among those of the 20 best starts and ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field
from tokenizers import Encoding

from maskwright.evaluation.datasets.labelled import Answer, LabelledTexts, Splits
from maskwright.evaluation.fine_tuning.encoding import TextEncoder
from maskwright.evaluation.fine_tuning.model import PositionHead, SpanCrossEntropy, TaskHead
from maskwright.evaluation.fine_tuning.questions import Questions
from maskwright.evaluation.fine_tuning.task import FineTunedTask, order_items
from maskwright.evaluation.items import Items
from maskwright.evaluation.metrics import answer_f1, exact_match


@dataclass(frozen=True)
class PassageWindows(Questions):
    """Questions about windows of passages.

    The asked positions are the first token, which stands for no answer, and the tokens of the passage.

    Attributes:
        row_of_window: int64 [N], the row that a window belongs to.
        offsets: int64 [M, 2], the characters of the passage that an asked token stands for; (0, 0) for no answer.
    """

    row_of_window: np.ndarray
    offsets: np.ndarray


class QuestionAnswering(FineTunedTask):
    """Find the answer to a question in a passage, or predict that there is none.

    Scores from 0 to 1: `f1`, overlap of words; `exact_match`. Baselines: `passage`, the whole passage as the answer;
    `no_answer`, nothing.
    """

    class Config(FineTunedTask.Config):
        """Settings."""

        stride: int = Field(default=64, ge=1, description="tokens that neighbouring windows of a passage share")
        max_answer_tokens: int = Field(default=30, ge=1, description="longest answer, in tokens")

    kind = "question_answering"
    loss = SpanCrossEntropy()
    citation = "Rajpurkar et al. 2016, SQuAD: 100,000+ Questions for Machine Comprehension of Text, arXiv:1606.05250"

    def questions(self, encoder: TextEncoder, rows: LabelledTexts, splits: Splits) -> PassageWindows:
        """See `FineTunedTask`; a window that does not hold the answer learns that there is none."""
        stride = min(self.config.stride, encoder.max_length // 4)
        # A question may fill half of a window; what is left must hold more than the windows share.
        asked_for = encoder.shorten_texts([question for question, _ in rows.texts], encoder.max_length // 2)
        texts = [(question, passage) for question, (_, passage) in zip(asked_for, rows.texts, strict=True)]
        encodings = encoder.encodings(texts, strategy="only_second", stride=stride)
        windows = [(row, one) for row, first in enumerate(encodings) for one in (first, *first.overflowing)]
        asked = [asked_tokens(window) for _, window in windows]
        offsets = [passage_offsets(window, positions) for (_, window), positions in zip(windows, asked, strict=True)]
        targets = [span_targets(one, rows.targets[row]) for one, (row, _) in zip(offsets, windows, strict=True)]
        return PassageWindows(
            sequences=encoder.sequences(
                [window for _, window in windows],
                num_cut=sum(len(one) < len(question) for one, (question, _) in zip(asked_for, rows.texts, strict=True)),
            ),
            asked=np.concatenate(asked),
            num_asked=np.array([len(positions) for positions in asked], dtype=np.int64),
            targets=np.concatenate(targets),
            row_of_window=np.array([row for row, _ in windows], dtype=np.int64),
            offsets=np.concatenate(offsets),
        )

    def head(self, width: int, splits: Splits, dropout: float) -> TaskHead:
        return PositionHead(width, 2, dropout)

    def items(self, questions: Questions, outputs_MC: np.ndarray, rows: LabelledTexts, splits: Splits) -> Items:
        assert isinstance(questions, PassageWindows)
        may_be_none = any(not answers for answers in splits.train.targets)
        answers = [""] * len(rows)
        best = np.full(len(rows), -np.inf)
        none = np.full(len(rows), np.inf)
        borders = np.cumsum(questions.num_asked)[:-1]
        windows = zip(
            np.split(outputs_MC, borders), np.split(questions.offsets, borders), questions.row_of_window, strict=True
        )
        for scores_LC, offsets_LC, row in windows:
            none[row] = min(none[row], scores_LC[0].sum())
            score, first, last = best_span(scores_LC[1:], self.config.max_answer_tokens)
            if score > best[row]:
                best[row] = score
                # Position 0 stands for no answer.
                answers[row] = rows.texts[row][1][offsets_LC[first + 1, 0] : offsets_LC[last + 1, 1]].strip()
        if may_be_none:
            answers = ["" if none[row] > best[row] else answer for row, answer in enumerate(answers)]
        return make_items(rows, answers)

    def guesses(self, splits: Splits) -> Mapping[str, Items]:
        return {
            "passage": make_items(splits.test, [passage for _, passage in splits.test.texts]),
            "no_answer": make_items(splits.test, [""] * len(splits.test)),
        }


def asked_tokens(window: Encoding) -> np.ndarray:
    """Return the positions of a window that are asked: the first token, and all of the passage; int64."""
    # None, for special tokens, becomes NaN.
    text_of_token = np.array(window.sequence_ids, dtype=np.float64)
    return np.concatenate([[0], np.flatnonzero(text_of_token == 1)])


def passage_offsets(window: Encoding, positions: np.ndarray) -> np.ndarray:
    """Return the character range of each asked token, int64 [L, 2]; (0, 0) for no answer."""
    offsets_LC = np.array(window.offsets, dtype=np.int64).reshape(-1, 2)[positions]
    offsets_LC[0] = 0
    return offsets_LC


def span_targets(offsets_LC: np.ndarray, answers: Sequence[Answer]) -> np.ndarray:
    """Return where an answer starts and ends among the asked positions, bool [L, 2].

    The first of several accepted answers is learned. Without one, and where the window does not hold all of it, the
    position of no answer is start and end.
    """
    is_border_LC = np.zeros(offsets_LC.shape, dtype=bool)
    first = last = np.zeros(0, dtype=np.int64)
    if answers and answers[0].text:
        begin, end = answers[0].start, answers[0].start + len(answers[0].text)
        first = np.flatnonzero((offsets_LC[1:, 0] <= begin) & (begin < offsets_LC[1:, 1])) + 1
        last = np.flatnonzero((offsets_LC[1:, 0] < end) & (end <= offsets_LC[1:, 1])) + 1
    if len(first) and len(last):
        is_border_LC[first[0], 0] = is_border_LC[last[-1], 1] = True
    else:
        is_border_LC[0] = True
    return is_border_LC


def best_span(scores_LC: np.ndarray, max_tokens: int) -> tuple[float, int, int]:
    """Return the score, the first and the last token of the best span.

    Args:
        scores_LC: float [L, 2], how likely each token of a passage is the start and the end.
        max_tokens: longest span.
    """
    if not len(scores_LC):
        return -np.inf, 0, 0
    ends = np.concatenate([scores_LC[:, 1], np.full(max_tokens - 1, -np.inf)])
    following_LK = np.lib.stride_tricks.sliding_window_view(ends, max_tokens)
    total_LK = scores_LC[:, :1] + following_LK
    first, more = np.unravel_index(int(total_LK.argmax()), total_LK.shape)
    return float(total_LK[first, more]), int(first), int(first + more)


def make_items(rows: LabelledTexts, answers: list[str]) -> Items:
    """Return one item per question."""
    accepted = [[answer.text for answer in target] for target in rows.targets]
    columns = {
        "f1": np.array([answer_f1(*pair) for pair in zip(answers, accepted, strict=True)]),
        "exact_match": np.array([exact_match(*pair) for pair in zip(answers, accepted, strict=True)]),
    }
    return order_items(rows, columns, texts={"prediction": answers})
