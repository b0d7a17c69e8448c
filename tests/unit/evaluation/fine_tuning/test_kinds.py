"""The kinds: what is asked of which token, what becomes of the outputs, and a way from files to a result."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from maskwright.core.errors import EvaluationError, RecipeError
from maskwright.evaluation.catalogue import build_task
from maskwright.evaluation.datasets.labelled import Answer, LabelledTexts, Splits
from maskwright.evaluation.fine_tuning.encoding import TextEncoder
from maskwright.evaluation.fine_tuning.task import FineTunedTask
from maskwright.evaluation.tasks.question_answering import PassageWindows, QuestionAnswering, best_span
from maskwright.evaluation.tasks.token_classification import WordQuestions

FAST = {"learning_rate": 3e-3, "epochs": 6, "batch_size": 16, "precision": "float32", "dropout": 0.0}
PASSAGE = (
    "Every morning the baker opened his shop before sunrise. Nobody knew why the old bridge had been painted green."
)


def task_of(kind: str, **settings) -> FineTunedTask:
    files = {"train": "train.jsonl", "test": "test.jsonl"}
    task = build_task(kind, {"data": files, "training": FAST} | settings)
    assert isinstance(task, FineTunedTask)
    return task


def answers_of(passage: str, *texts: str) -> list[Answer]:
    return [Answer(text, passage.index(text)) for text in texts]


# --- tags of words -----------------------------------------------------------------------------------------------

SENTENCES = [("The", "court", "dismissed", "the", "appeal."), ("zzz", "dog", "\u200b", "slept"), ("stairs",)]


def tagged(texts=SENTENCES) -> LabelledTexts:
    targets = [[index % 2 for index in range(len(words))] for words in texts]
    return LabelledTexts([str(index) for index in range(len(texts))], texts, targets, "tags")


def test_the_first_token_of_every_word_is_asked(any_tokenizer):
    rows = tagged()
    splits = Splits(rows, rows, label_names=["N", "V"])
    words = task_of("token_classification").questions(TextEncoder(any_tokenizer, 64), rows, splits)
    assert isinstance(words, WordQuestions)
    place = words.sequences.starts.repeat(words.num_asked) + words.asked
    flat = [word for sentence in SENTENCES for word in sentence]
    for number, token_id in zip(words.words, words.sequences.token_ids[place], strict=True):
        token = any_tokenizer.decode([int(token_id)]).strip()
        is_piece = token_id == any_tokenizer.unk_token_id or "\ufffd" in token  # a byte of a character
        assert flat[number].startswith(token) or is_piece, (flat[number], token)
    unseen = {flat[number] for number in set(range(len(flat))) - set(words.words.tolist())}
    assert unseen <= {"\u200b"}


def test_words_that_were_cut_off_count_as_the_most_frequent_class(tokenizer):
    rows = tagged()
    splits = Splits(rows, rows, label_names=["N", "V"])
    task = task_of("token_classification")
    words = task.questions(TextEncoder(tokenizer, 5), rows, splits)
    assert words.sequences.num_cut == 1
    outputs_MC = np.tile(np.array([[0.0, 1.0]], dtype=np.float32), (len(words.asked), 1))
    items = task.items(words, outputs_MC, rows, splits)
    assert items.texts["prediction"][0].split()[-1] == "N"
    assert items.columns["num_words"].tolist() == [5, 4, 1]
    right = [
        sum(a == "NV"[b] for a, b in zip(p.split(), t, strict=True))
        for p, t in zip(items.texts["prediction"], rows.targets, strict=True)
    ]
    assert items.columns["num_right_words"].tolist() == right
    assert task.scores(items)["accuracy"] == pytest.approx(sum(right) / 10)


def test_guessers_of_tags():
    train = LabelledTexts(["a", "b"], [("dog", "runs"), ("cat", "runs", "far")], [[0, 1], [0, 1, 1]], "train")
    test = LabelledTexts(["c"], [("dog", "runs", "new")], [[0, 1, 0]], "test")
    task = task_of("token_classification")
    guesses = task.guesses(Splits(train, test, label_names=["N", "V"]))
    assert {name: task.scores(items)["accuracy"] for name, items in guesses.items()} == {
        "majority": pytest.approx(1 / 3),
        "by_word": pytest.approx(2 / 3),
    }


# --- answers -----------------------------------------------------------------------------------------------------


def questions_about(passage: str, *answers: list[Answer]) -> LabelledTexts:
    texts = [("Why?", passage)] * len(answers)
    return LabelledTexts([str(index) for index in range(len(answers))], texts, list(answers), "squad")


@pytest.mark.parametrize(("max_length", "repeats"), [(128, 1), (64, 3)])
@pytest.mark.parametrize("text", ["Every morning", "the old bridge", "green", "opened his shop before"])
def test_the_right_borders_give_the_answer_back(any_tokenizer, max_length, repeats, text):
    passage = " ".join([PASSAGE] * repeats)
    rows = questions_about(passage, answers_of(passage, text))
    task = task_of("question_answering", stride=16)
    windows = task.questions(TextEncoder(any_tokenizer, max_length), rows, Splits(rows, rows))
    assert isinstance(windows, PassageWindows)
    assert (len(windows) > 1) == (repeats > 1)
    assert (windows.targets.sum(axis=0) == len(windows)).all()
    assert (windows.sequences.sizes <= max_length).all()
    items = task.items(windows, np.where(windows.targets, 5.0, 0.0).astype(np.float32), rows, Splits(rows, rows))
    found = items.texts["prediction"][0]
    # A token may be more than the answer's border, such as "green." in some vocabularies.
    assert text in found
    assert len(found) <= len(text) + 1


def test_no_answer_is_the_first_token_and_needs_data_that_has_it(tokenizer):
    rows = questions_about(PASSAGE, [], answers_of(PASSAGE, "green"))
    only_answers = questions_about(PASSAGE, answers_of(PASSAGE, "green"), answers_of(PASSAGE, "green"))
    task = task_of("question_answering")
    windows = task.questions(TextEncoder(tokenizer, 64), rows, Splits(rows, rows))
    outputs_MC = np.where(windows.targets, 5.0, 0.0).astype(np.float32)
    items = task.items(windows, outputs_MC, rows, Splits(rows, rows))
    assert items.texts["prediction"][0] == ""
    assert items.columns["exact_match"].tolist() == [1.0, 1.0]
    items = task.items(windows, outputs_MC, rows, Splits(only_answers, rows))
    assert items.texts["prediction"][0] != ""


def test_a_question_that_fills_the_window_leaves_room_for_the_passage(tokenizer):
    rows = replace(questions_about(PASSAGE, answers_of(PASSAGE, "green")), texts=[(PASSAGE * 3, PASSAGE)])
    windows = task_of("question_answering").questions(TextEncoder(tokenizer, 32), rows, Splits(rows, rows))
    assert windows.sequences.num_cut == 1
    assert (windows.num_asked > 8).all()


def test_the_best_span_is_the_best_of_all():
    generator = np.random.default_rng(0)
    for _ in range(50):
        scores_LC = generator.normal(size=(generator.integers(1, 9), 2)).astype(np.float32)
        limit = int(generator.integers(1, 6))
        spans = [(a, b) for a, b in itertools.product(range(len(scores_LC)), repeat=2) if 0 <= b - a < limit]
        expected = max(spans, key=lambda span: scores_LC[span[0], 0] + scores_LC[span[1], 1])
        assert best_span(scores_LC, limit)[1:] == expected


# --- classes and numbers -----------------------------------------------------------------------------------------


def test_choices_become_answers_of_questions():
    rows = LabelledTexts(
        ["1.0", "1.1", "2.0", "2.1"], [("a",)] * 4, [0, 1, 1, 0], "copa", question_ids=["1", "1", "2", "2"]
    )
    task = task_of("classification")
    outputs_NC = np.array([[0, 2], [0, 1], [0, 1], [0, -1]], dtype=np.float32)
    items = task.items(None, outputs_NC, rows, Splits(rows, rows, label_names=["wrong", "right"]))  # pyright: ignore
    assert items.ids.tolist() == ["1", "2"]
    assert task.scores(items)["accuracy"] == 0.5


def test_scores_of_parts_of_the_data():
    rows = LabelledTexts(list("abcd"), [("x",)] * 4, [0, 1, 1, 1], "mnli", strata=["fiction", "letters"] * 2)
    task = task_of("classification")
    items = task.items(None, np.array([[1, 0]] * 4, dtype=np.float32), rows, Splits(rows, rows))  # pyright: ignore
    groups = task._by_stratum(items)
    assert {name: scores["accuracy"] for name, scores in groups.items()} == {"fiction": 0.5, "letters": 0.0}


def test_numbers_are_learned_in_units_of_their_spread_and_turned_back(tokenizer):
    train = LabelledTexts(list("abc"), [("dog",)] * 3, [1000.0, 2000.0, 3000.0], "train")
    splits = Splits(train, train)
    task = task_of("regression", metrics=["pearson", "mean_absolute_error"])
    questions = task.questions(TextEncoder(tokenizer, 64), train, splits)
    assert questions.targets.mean() == pytest.approx(0, abs=1e-6)
    assert questions.targets.std() == pytest.approx(1, abs=1e-6)
    items = task.items(questions, questions.targets[:, None], train, splits)
    assert task.scores(items) == {"pearson": pytest.approx(1), "mean_absolute_error": pytest.approx(0, abs=1e-3)}
    assert task.scores(task.guesses(splits)["mean"])["mean_absolute_error"] == pytest.approx(2000 / 3)


def test_the_smaller_error_is_the_better_one():
    train = LabelledTexts(list("ab"), [("dog",)] * 2, [0.0, 1.0], "train")
    splits = Splits(train, train)
    task = task_of("regression", metrics=["mean_absolute_error"])
    good, bad = (task.items(None, np.array(out, dtype=np.float32), train, splits) for out in ([[-1], [1]], [[3], [3]]))  # pyright: ignore
    assert task.deciding_score(good, splits) > task.deciding_score(bad, splits)


def test_metrics_that_do_not_fit_are_refused(subject, tmp_path):
    with pytest.raises(RecipeError, match="did you mean 'accuracy'"):
        task_of("classification", metrics=["acuracy"])
    rows = [{"text": "a dog", "label": label} for label in "abc"] * 3
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    subject.data = tmp_path
    with pytest.raises(EvaluationError, match="the metric f1 is for two classes, the data has 3"):
        task_of("classification", metrics=["f1"]).evaluate(subject, 12)


# --- from files to a result --------------------------------------------------------------------------------------


def test_a_result_holds_scores_baselines_settings_and_items(subject, splits, tmp_path):
    subject.data = tmp_path
    for name in ("train", "test"):
        rows = getattr(splits, name)
        lines = [
            json.dumps({"text": text, "label": target})
            for (text,), target in zip(rows.texts, rows.targets, strict=True)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    task = task_of("classification", metrics=["accuracy", "f1"])
    assert set(task.data_sha256(subject)) == {"train.jsonl", "test.jsonl"}
    result = task.evaluate(subject, 12)
    assert task.main_metric == "accuracy"
    assert task.is_repeated
    assert result.scores["accuracy"] > 0.9
    assert result.items is not None
    assert result.scores == task.scores(result.items)
    majority = max(np.bincount(splits.test.targets)) / len(splits.test)
    assert result.baselines["majority"]["accuracy"] in (pytest.approx(majority), pytest.approx(1 - majority))
    assert result.settings["train_examples_per_second"] > 0
    assert result.settings["num_steps"] == 60
    again = type(result).model_validate(result.model_dump(mode="json"))
    assert again.scores == result.scores


@pytest.mark.parametrize("kind", ["token_classification", "question_answering", "regression"])
def test_every_kind_learns_something(subject, tmp_path, kind):
    generator = np.random.default_rng(1)
    nouns = ["dog", "door", "bridge", "shop"]

    def row() -> dict:
        words = generator.choice([*nouns, "slept", "closed"], 5).tolist()
        if kind == "token_classification":
            return {"text": words, "label": ["N" if word in nouns else "V" for word in words]}
        if kind == "regression":
            return {"text": " ".join(words), "label": float(10 * words.count("dog"))}
        passage = " ".join(["green", *words, "baker"])
        answer = {"text": "baker", "answer_start": passage.index("baker")}
        return {"question": "Nobody", "passage": passage, "label": [answer]}

    for name, count in (("train", 200), ("test", 40)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(row()) for _ in range(count)))
    subject.data = tmp_path
    text = ["question", "passage"] if kind == "question_answering" else "text"
    task = task_of(kind, data={"train": "train.jsonl", "test": "test.jsonl", "text": text})
    result = task.evaluate(subject, 12)
    assert task.main_metric is not None
    # What words alone tell is told exactly by a bag of words: it counts dogs better than an encoder of two layers.
    guessers = (guess for name, guess in result.baselines.items() if name != "bag_of_words")
    best_guess = max(guess[task.main_metric] for guess in guessers)
    assert result.scores[task.main_metric] > 0.8
    assert result.scores[task.main_metric] >= best_guess
    assert isinstance(task, QuestionAnswering) == (kind == "question_answering")
