"""Questions about real data: what was asked, answered rightly, gives full scores."""

from pathlib import Path

import numpy as np
import pytest

from maskwright.evaluation.catalogue import build_task, find_tasks
from maskwright.evaluation.datasets.read_splits import read_splits
from maskwright.evaluation.fine_tuning.encoding import TextEncoder
from maskwright.evaluation.fine_tuning.task import FineTunedTask
from maskwright.tokenization.train_tokenizer import TokenizerConfig, train_tokenizer

DATA = Path(__file__).parents[5] / "shared" / "data"

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not DATA.is_dir(), reason="no shared data folder beside the checkout"),
]

XQUAD = {
    "rows": "data.paragraphs.qas",
    "text": ["data.paragraphs.qas.question", "data.paragraphs.context"],
    "label": "data.paragraphs.qas.answers",
    "id": "data.paragraphs.qas.id",
    "folders": ["xquad"],
}


def task_of(name: str) -> FineTunedTask:
    if name.startswith("xquad"):
        settings = {"data": XQUAD | {"train": name + ".json", "test": name + ".json"}, "max_answer_tokens": 100}
        task = build_task("question_answering", settings)
    else:
        task = find_tasks([name], {})[0].task
    assert isinstance(task, FineTunedTask)
    return task


@pytest.mark.parametrize(
    ("name", "kind"), [("xquad.en", "bpe"), ("xquad.de", "wordpiece"), ("ud_pos", "wordpiece"), ("ud_pos", "bpe")]
)
def test_right_outputs_give_full_scores(name, kind):
    task = task_of(name)
    splits = read_splits(task.config.data, task.kind, DATA, name)
    texts = [text for row in splits.train.texts for text in row]
    tokenizer = train_tokenizer(texts, TokenizerConfig(kind=kind, vocabulary_size=4000))
    questions = task.questions(TextEncoder(tokenizer, 256), splits.test, splits)
    targets = questions.targets
    right = targets if targets.ndim == 2 else np.eye(len(splits.label_names))[targets]
    items = task.items(questions, right.astype(np.float32), splits.test, splits)
    # Less than 1 where an answer ends inside a token, or a sentence has more than 256 tokens.
    assert all(score > 0.97 for score in task.scores(items).values()), task.scores(items)
    guesses = {guess: task.scores(items) for guess, items in task.guesses(splits).items()}
    assert all(score < 0.9 for scores in guesses.values() for score in scores.values()), guesses
